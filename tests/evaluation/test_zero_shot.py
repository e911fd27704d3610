"""A pre-trained run ranks images without fine-tuning, from the files to the lists."""

import json

import pytest
from made_data import captions, write_jsonl, write_store

from checkpoints import sources
from configs import vilbert_pretrain
from tests.evaluation.test_ranking import CHOICE, block
from training import loop


def configure(folder, objectives, ranked=True, **changes):
    config = vilbert_pretrain.get_config("size=mini,data=jsonl")
    config.model.update(hidden=16, layers=1, heads=2, intermediate=16)
    config.model.image.update(hidden=16, heads=2, intermediate=16, layers=1)
    config.model.connect.update(hidden=16, heads=2, text_at=(0,), image_at=(0,))
    config.streams.captions.update(batch_size=8, max_text=10, max_regions=6, max_length=16)
    config.streams.captions.update(objectives=objectives, negatives="alignment" in objectives)
    config.data.update(dir=str(folder / "cache"), annotations=str(folder / "train.jsonl"),
                       eval_annotations=str(folder / "eval.jsonl"), regions=str(folder / "store"),
                       vocab_size=180)  # fmt: skip
    config.mesh.update(data=2, fsdp=4)
    config.total_steps = config.log_every = config.eval_every = config.checkpoint.every = 4
    config.optimizer.update(lr=0.01, warmup_steps=1)
    config.checkpoint.best = ""
    with config.unlocked():
        config.objectives.choice = CHOICE
        config.evals = {}
        if ranked:
            config.evals.found = dict(block(head="alignment", batch_size=8), evaluator="ranking")
    config.update_from_flattened_dict(changes)
    return config.lock()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with data, and a pre-trained run in it."""
    folder = tmp_path_factory.mktemp("zero_shot")
    write_store(folder / "store", 16)
    write_jsonl(folder / "train.jsonl", captions(8))
    write_jsonl(folder / "eval.jsonl", captions(7, texts=3, first=8))
    objectives = ("masked_language", "masked_region", "alignment")
    loop.run(configure(folder, objectives, ranked=False), folder / "run")
    return folder


@pytest.mark.slow
def test_a_pretrained_run_ranks_as_itself_and_as_init(run):
    whole = configure(run, ("masked_language", "masked_region", "alignment"))
    own = loop.run(whole, run / "run", "eval")
    assert own["evals/found/texts"] == 21
    zero = loop.run(configure(run, ("alignment",), init=str(run / "run")), run / "zero", "eval")
    assert zero.pop("source") == own.pop("source") == str(run / "run")
    assert zero == own
    assert zero["step"] == 4

    # The streams differ in their objectives alone: the lists are the same to the byte.
    lists = [run / name / "rankings" / "found" / "eval.jsonl" for name in ("run", "zero")]
    assert lists[0].read_bytes() == lists[1].read_bytes()
    lines = [json.loads(line) for line in lists[0].read_text().splitlines()]
    assert {line["image"] for line in lines} == {f"img{i}" for i in range(8, 15)}
    share = sum(line["rank"] <= 5 for line in lines) / 21
    assert own["evals/found/image_retrieval_r5"] == pytest.approx(share)


@pytest.mark.slow
def test_a_run_without_the_head_or_of_another_trunk_is_refused(run):
    plain = configure(run, ("choice",), ranked=False, init=str(run / "run"))
    plain.streams.captions.distractors = "random"
    with pytest.raises(sources.SourceError, match="does not give heads/ranking/classifier"):
        loop.run(plain, run / "none", "eval")
    other = configure(run, ("alignment",), init=str(run / "run"))
    other.model.connect.coattention = False
    with pytest.raises(sources.SourceError, match="the model lacks trunk/connection_0"):
        loop.run(other, run / "none", "eval")
