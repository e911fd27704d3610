"""Benchmarks of the train step, alone and beside its peers, at toy sizes: see test_benchmarks."""

import json
import subprocess
import sys

import pytest
from benchmark_runs import run_benchmark

from benchmarks import train_step

STEP = ("--sizes=mini", "--batch=8", "--rounds=1", "--steps=1", "--matmul=64", "--buckets=20x20")


@pytest.mark.slow
def test_train_step(tmp_path, capsys):
    train_step.main([*STEP, "--models=vlbert", "--json", str(tmp_path / "out.json")])
    full, buckets = rows = json.loads((tmp_path / "out.json").read_text())
    printed = capsys.readouterr().out
    assert [json.loads(line) for line in printed.splitlines() if line[:1] == "{"] == rows
    assert [row["kind"] for row in rows] == ["full", "buckets"]
    for row in rows:
        seconds = row["step_ms_p50"] / 1e3
        assert row["examples_per_second"] * seconds == pytest.approx(8)
        assert row["real_tokens_per_second"] < row["padded_tokens_per_second"]
        assert row["mfu"] == pytest.approx(row["teraflops_per_second"] / row["peak_teraflops"])
        assert 1 < row["loss"] < 100
        assert f"{row['step_ms_p50']:,.1f} | {row['step_ms_p95']:,.1f}" in printed
    real = [row["real_tokens_per_second"] * row["step_ms_p50"] / 1e3 for row in rows]
    assert real[1] == pytest.approx(real[0], rel=0.2)  # of all examples, and of the first eight
    assert full["shape"] == "64x37x64"
    small, own = (part.split(":") for part in buckets["shape"].split())
    assert small[0] == "20x20x40"
    assert int(small[1][:-1]) + int(own[1][:-1]) == 100
    padded = [row["padded_tokens_per_second"] * row["step_ms_p50"] / 1e3 for row in rows]
    assert padded[0] == pytest.approx(8 * 65)  # with [END]
    share = int(small[1][:-1]) / 100
    assert padded[1] == pytest.approx(8 * (share * 41 + (1 - share) * 65), rel=0.01)
    assert buckets["teraflops_per_step"] < full["teraflops_per_step"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vlbert", "vilbert"])
def test_train_step_beside_its_peer(model, tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    train_step.main([*STEP, f"--models={model}", "--peer", "--json", str(tmp_path / "out.json")])
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [(row["side"], row["kind"]) for row in rows] == [
        ("ours", "full"), ("ours", "buckets"), ("peer", "full"), ("peer", "buckets")
    ]  # fmt: skip
    assert "× the peer in examples/s at the same padded rows" in capsys.readouterr().out
    real = [row["real_tokens_per_second"] * row["step_ms_p50"] / 1e3 for row in rows]
    assert real[2] == pytest.approx(real[0], rel=0.15)  # other examples of the same kind


@pytest.mark.slow
def test_step_parts(tmp_path):
    out = tmp_path / "out.json"
    options = "--model=vilbert", "--size=mini", "--batch=2", "--steps=2", "--longest=5"
    trace = tmp_path / "trace"
    printed = run_benchmark("step_parts.py", *options, f"--trace={trace}", f"--json={out}")
    step, *rows = json.loads(out.read_text())
    parts = {row["part"]: row for row in rows if "part" in row}
    assert {"attention, its map", "feed-forward", "masked words", "other heads"} < set(parts)
    for name in ("attention, projections", "feed-forward", "embedding"):
        assert min(parts[name]["forward_ms"], parts[name]["backward_ms"]) > 0
    total = sum(row["forward_ms"] + row["backward_ms"] for row in parts.values())
    assert total == pytest.approx(step["operations_ms"])
    assert all(name in printed for name in parts)
    longest = [row["ms"] for row in rows if "operation" in row]
    assert len(longest) == 5
    assert longest == sorted(longest, reverse=True)
    assert (trace / "program.hlo").read_text().startswith("HloModule")


def checkout(folder, name, text=""):
    """A folder with one file of an original's."""
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text(text)


# Names and arguments as the original has them.
VILBERT = """
import boto3
from botocore.exceptions import ClientError
from tensorboardX import SummaryWriter
from torch._six import inf
from torch import nn

class BertConfig:
    @classmethod
    def from_dict(cls, fields):
        found = cls()
        vars(found).update(fields)
        return found

class BertForMultiModalPreTraining(nn.Module):
    def __init__(self, config):
        super().__init__()
        print("model's visual target is", config.visual_target)
        self.words = nn.Embedding(config.vocab_size, 4)
        self.regions = nn.Linear(config.v_feature_size, 4)

    def forward(self, input_ids, image_feat, image_loc, token_type_ids, attention_mask,
                image_attention_mask, masked_lm_labels, image_label, image_target,
                next_sentence_label):
        assert image_target.shape[:2] == image_label.shape == image_feat[:, 1:, 0].shape
        assert ((masked_lm_labels >= 0) <= (attention_mask == 1)).all()
        assert ((image_label == 1) <= (image_attention_mask[:, 1:] == 1)).all()
        loss = (self.words(input_ids) ** 2).mean() + (self.regions(image_feat) ** 2).mean()
        return loss[None], loss[None], loss[None]
"""


@pytest.mark.slow
def test_train_step_beside_the_original(tmp_path, capsys):
    pytest.importorskip("torch")
    checkout(tmp_path, "vilbert/vilbert.py", VILBERT)
    out = tmp_path / "out.json"
    train_step.main([*STEP, f"--peer=official:{tmp_path}", "--json", str(out)])
    printed, known = capsys.readouterr(), set(sys.modules)
    rows = json.loads(out.read_text())
    assert [(row["model"], row["side"], row["kind"]) for row in rows] == [
        ("vilbert", side, kind) for side in ("ours", "peer") for kind in ("full", "buckets")
    ]
    assert f"BertForMultiModalPreTraining of {tmp_path}, torch" in rows[-1]["peer"]
    assert "× the peer in real tokens/s" in printed.out
    assert "visual target" not in printed.out
    assert not known & {"boto3", "botocore", "torch._six"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--peer", "--peer needs torch"),
        ("--batch=0", "--batch: expected a number of at least 1"),
        ("--regions=30-10", "neither a number nor LOW-HIGH"),
        ("--buckets=20x", "neither TxR nor TxRxL"),
        ("--text_batch=4", "vilbert has no stream of plain text"),
        ("--models=vlbert --mesh=3,1,1", "does not cover"),
        ("--models=vlbert --accumulate=3", "must be a multiple of"),
        ("--json=no/such/folder/x.json", "no such folder"),
        ("--peer=official:no/such/folder", "a checkout of jackroos/VL-BERT or facebookresearch/"),
        ("--peer=lxmert", "expected transformers, or official:FOLDER"),
        ("--peer=official:{vilbert}", "--peer needs torch"),
        ("--peer=official:{vilbert} --models=vlbert", "expected --models=vilbert, found vlbert"),
        ("--peer=official:{vilbert} --text_batch=4", "rows of plain text are not run"),
    ],
)
def test_train_step_checks_its_arguments_before_it_compiles(
    arguments, told, monkeypatch, capsys, tmp_path
):
    checkout(tmp_path, "vilbert/vilbert.py")
    monkeypatch.setattr(train_step.arguments.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(train_step, "measure", lambda *_: pytest.fail("it began"))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(SystemExit) as ended:
        train_step.main(arguments.format(vilbert=tmp_path).split())
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
