"""configs/multitask.py: each task as its own config has it, under one model."""

import types

import numpy as np
import pytest

from configs import multitask, nlvr2, presets, refcoco, task_table, vqa
from core.errors import ConfigError
from input_pipeline.schema import SpecialIds
from objectives import base
from objectives.model import MultiTaskModel
from training import config_checks

TWELVE = [name for name, task in task_table.OFFICIAL.items() if task.group != "reasoning"]


@pytest.mark.parametrize(
    "arg",
    [
        "model=vilbert",
        "model=vlbert",
        "model=vilbert,schedule=summed,tasks=vocab_vqa+pretraining",
        "model=vlbert,schedule=sampled,tasks=pretraining+nlvr2",
        "model=vilbert,size=base,data=official",
        "model=vlbert,size=base,data=official,tasks=referring",
        "model=vilbert,size=base,data=official,tasks=all+reasoning,released=true",
    ],
)
def test_every_argument_makes_a_config_that_holds_together(arg):
    config = multitask.get_config(arg)
    assert config.is_locked
    config_checks.check(config)


def test_groups_and_names():
    scenes = list(task_table.SCENES)
    assert task_table.chosen("all", "scenes") == scenes
    assert task_table.chosen("all", "official") == TWELVE
    assert len(TWELVE) == 12
    assert task_table.chosen("verification", "scenes") == ["nlvr2", "entailment"]
    assert task_table.chosen("nlvr2+vqa", "scenes") == ["vqa", "nlvr2"]  # the table's order
    assert task_table.chosen("retrieval", "official") == ["coco", "flickr30k"]
    with pytest.raises(ValueError, match=r"'all', a group.*'gqa'"):
        multitask.get_config("tasks=vqa+gqa")


@pytest.mark.parametrize("model", ["vilbert", "vlbert"])
def test_a_task_is_laid_out_as_by_itself(model):
    config = multitask.get_config(f"model={model}")
    for name, module in dict(vqa=vqa, nlvr2=nlvr2, refcoco=refcoco).items():
        single = module.get_config(f"model={model},data=scenes")
        mine, its = config.streams[name].to_dict(), single.streams.examples.to_dict()
        for changed in ("objectives", "task", "score"):
            del mine[changed], its[changed]
        assert mine == its
        kind = single.streams.examples.objectives[0]
        block = single.objectives[kind].to_dict()
        assert config.objectives[name].to_dict() == block | dict(head=block["head"] or kind)
        assert config.evals[name].split == single.evals.validation.split


def test_tasks_of_a_group_share_heads_and_have_rows_of_their_own():
    config = multitask.get_config("model=vilbert,size=base,data=official,tasks=all+reasoning")
    heads = {name: config.objectives[name].head for name in task_table.OFFICIAL}
    assert heads["vqa"] == heads["visual_genome_qa"] != heads["gqa"]
    assert len({heads[name] for name in ("coco", "flickr30k", "answers", "rationales")}) == 1
    referring = [n for n, task in task_table.OFFICIAL.items() if task.group == "referring"]
    assert len({heads[name] for name in referring}) == 1
    rows = [config.streams[name].task for name in task_table.OFFICIAL]
    assert len(set(rows)) == len(rows)
    assert max(rows) < config.model.tasks == multitask.TASK_ROWS
    config.streams.vqa.data.answers = "answers.json"
    assert config.streams.visual_genome_qa.data.answers == "answers.json"
    assert config.streams.gqa.data.answers == ""
    tokenless = multitask.get_config("model=vilbert,task_tokens=false,dynamic_attention=true")
    assert tokenless.model.tasks == 0
    assert tokenless.model.dynamic_attention
    assert not any(block.task for block in tokenless.streams.values())


def test_the_published_numbers_of_the_twelve():
    """vilbert_tasks.yml: batch, length, regions; rates are weights of the losses."""
    config = multitask.get_config("model=vilbert,size=base,data=official")
    found = {
        name: (
            block.batch_size, block.max_text, block.max_regions,
            config.objectives[name].weight * config.optimizer.lr,
        )
        for name, block in config.streams.items()
    }  # fmt: skip
    expected = {
        "vqa": (128, 23, 101, 4e-5), "visual_genome_qa": (128, 26, 101, 4e-5),
        "gqa": (128, 26, 101, 4e-5), "coco": (128, 30, 101, 2e-5),
        "flickr30k": (128, 30, 101, 2e-5), "refcoco": (256, 20, 101, 2e-5),
        "refcoco_plus": (256, 20, 101, 2e-5), "refcocog": (256, 20, 101, 2e-5),
        "visual7w": (256, 20, 200, 2e-5), "guesswhat": (64, 256, 306, 2e-5),
        "nlvr2": (64, 40, 101, 2e-5), "snli_ve": (256, 56, 101, 2e-5),
    }  # fmt: skip
    assert found == {name: pytest.approx(row) for name, row in expected.items()}
    assert config.optimizer.lr == 2e-5
    assert config.optimizer.multipliers == (("heads/(entailment|gqa|nlvr2|ranking|vqa)/.*", 5),)
    assert not config.optimizer.correct_bias
    assert config.stream_schedule.order == tuple(TWELVE)
    assert config.streams.gqa.data.train_split == "trainval"
    assert config.streams.coco.data.test_split == "karpathy_test"
    assert {block.data.leaks for block in config.streams.values()} == {"drop"}
    kinds = [
        multitask.get_config(f"tasks={tasks}").stream_schedule.kind
        for tasks in ("vqa", "vqa+nlvr2")
    ]
    assert kinds == ["round_robin", "stop_and_go"]


def test_rounds_of_an_epoch():
    passes = dict(a=10, b=400, c=30)
    found = [multitask.rounds_of_epoch(passes, which) for which in ("min", "median", "max")]
    assert found == [10, 30, 400]
    longest = presets.EXAMPLES["visual_genome_qa"] // 128
    config = multitask.get_config("size=base,data=official")
    assert config.total_steps == 20 * longest
    assert dict(config.eval_intervals)["visual_genome_qa"] == longest
    shorter = multitask.get_config("size=base,data=official,epoch=median")
    assert shorter.total_steps < config.total_steps
    # The released code takes the last task's epochs for all, VCR's ten.
    released = multitask.get_config("size=base,data=official,tasks=vqa+answers,released=true")
    epoch = presets.EXAMPLES["vqa"] // 128
    assert released.total_steps == 10 * epoch
    schedule = released.stream_schedule
    assert schedule.stop_and_go.resets == (6 * epoch, 8 * epoch)
    assert (schedule.unused_heads, schedule.rate) == ("released", "released")
    assert not config.stream_schedule.stop_and_go.resets
    # Where a step is one update, an epoch has those of all passes.
    sampled = multitask.get_config("size=base,data=official,tasks=vqa+nlvr2,schedule=sampled")
    assert sampled.total_steps == 20 * (epoch + presets.EXAMPLES["nlvr2"] // 64)
    assert config.optimizer.warmup_steps == config.total_steps // 10
    # Ranking takes long: at the end alone.
    assert dict(config.eval_intervals)["coco_ranking"] == config.total_steps


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"streams.vqa.score": ""}, r"needs the score.*streams\.vqa\.score"),
        ({"streams.vqa.score": "evals/nlvr2/nlvr2_accuracy"}, r"of another stream.*vqa"),
        ({"streams.vqa.score": "evals/gqa/accuracy"}, r"an evaluation that there is not.*'gqa'"),
        ({"streams.vqa.task": 20}, r"a row of the task table that there is not.*less than.*20"),
        ({"eval_intervals": (("gqa", 5),)}, r"evaluation that there is not.*eval_intervals.*'gqa'"),
        ({"stream_schedule.order": ("gqa",)}, r"stream that there is not.*order.*'gqa'"),
        ({"stream_schedule.shares": (("gqa", 1.0),)}, r"stream that there is not.*shares.*'gqa'"),
        (
            {"stream_schedule.kind": "sampled", "stream_schedule.shares": (("vqa", 1.0),)},
            r"never drawn.*none for 'nlvr2'",
        ),
        ({"stream_schedule.starts": (("vqa", 0.9999),)}, r"takes part in no step.*'vqa'"),
        (
            {"stream_schedule.kind": "all", "streams.vqa.rate": 0.5},
            r"no learning rate of its own.*streams\.vqa\.rate",
        ),
        ({"objectives.nlvr2.head": "vqa"}, r"two objectives have a head 'vqa'.*objectives\.vqa"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_data_is_opened(changes, told):
    config = multitask.get_config("model=vilbert,tasks=vqa+nlvr2")
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=f"(?s){told}"):
        config_checks.check(config)


def test_a_head_whose_answer_lists_differ_is_refused_by_what_differs():
    config = multitask.get_config("model=vilbert,tasks=vocab_vqa+nlvr2")
    with config.unlocked():
        config.streams.more = config.streams.vqa.copy_and_resolve_references()
        config.streams.more.objectives = ("more",)
        config.objectives.more = config.objectives.vqa
    spec = types.SimpleNamespace(feature_dim=32, num_classes=11, global_feature="mean")
    lists = dict.fromkeys(config.streams, base.OutputLists(("yes", "no", "red"), labels=("a", "b")))
    assert MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 100), spec, lists).head_specs
    for other, told in ((("yes", "red"), "2 answers, number 1 is 'red'"), (("yes",), "1 answers")):
        lists["vqa"] = base.OutputLists(other)
        with pytest.raises(ConfigError, match=r"(?s)'more' and 'vqa' share head 'vqa'") as caught:
            MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 100), spec, lists)
        text = str(caught.value)
        assert "3 answers, number 1 is 'no'" in text
        assert f"found: {told}" in text
        assert "--config.streams.more.data.answers=FILE" in text


def test_a_batch_keeps_a_row_of_the_task_table_that_it_names():
    config = multitask.get_config("model=vilbert,tasks=nlvr2+refcoco")
    spec = types.SimpleNamespace(feature_dim=32, num_classes=11, global_feature="mean")
    lists = dict.fromkeys(config.streams, base.OutputLists(labels=("a", "b")))
    model = MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 100), spec, lists)
    batch = dict(text_ids=np.zeros((3, 1, 4), np.int32))
    assert model._with_task("nlvr2", batch)["task_id"].tolist() == [12] * 3
    named = batch | dict(task_id=np.full(3, 5, np.int32))
    assert model._with_task("nlvr2", named)["task_id"].tolist() == [5] * 3
