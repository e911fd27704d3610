"""Benchmarks still run, at toy sizes, and their figures hang together; how fast is not asked."""

import ast
import itertools
import json
import re
import types

import ml_collections
import numpy as np
import pytest
from benchmark_runs import run_benchmark

from benchmarks import (
    accelerator,
    captions,
    inference,
    input_pipeline,
    padding,
    start,
    storage,
    store_index,
    synthetic_stream,
    vision,
)
from input_pipeline.streams import limits
from training.run import throughput


def test_input_pipeline(tmp_path, capsys):
    small = "--images 12 --regions 4 --dim 16 --classes 20 --batch 4 --examples 16 --threads 2"
    out = tmp_path / "out.json"
    input_pipeline.main([*small.split(), "--cold", "--block", "2", "--json", str(out)])
    assert "examples/s" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert all(cost > 0 for cost in found["parts_us"].values())
    assert "iterate, 2 threads" in found
    assert any("disk_kb" in figures for figures in found.values())


def test_input_pipeline_for_a_consumer(tmp_path, capsys):
    small = "--images 12 --regions 4 --dim 16 --classes 20 --batch 8 --examples 32 --threads 1"
    out = tmp_path / "out.json"
    input_pipeline.main([*small.split(), "--consumer", "2000", "--json", str(out)])
    assert "a consumer of 2,000 examples/s" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert 0 <= found["threads"]["1"]["waiting"] < 1
    assert 0 < found["threads"]["1"]["examples_per_s"] <= 2000 * 1.01
    assert all(wall > 0 for wall, _ in found["stages"].values())


def test_storage(tmp_path, capsys):
    options = types.SimpleNamespace(images=12, regions=4, dim=16, classes=20, dtype="float32")
    synthetic_stream.make_store(str(tmp_path / "store"), options)
    out = tmp_path / "out.json"
    arguments = ["--images=12", "--examples=24", "--json", str(out)]
    assert storage.main([str(tmp_path / "store"), *arguments]) == 0
    (rows,) = json.loads(out.read_text()).values()
    error = {(row["dtype"], row["classes"]): row["relative_error"] for row in rows}
    most = max(classes for _, classes in error)
    assert error["float32", most] == 0 < error["bfloat16", most]
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 3
    assert storage.main([str(tmp_path / "nowhere")]) == 1


def test_store_index(capsys):
    assert store_index.main(["--images=300", "--asked=200", "--rounds=1"]) == 0
    assert re.search(
        r"300 images opened in .*200 ids looked up in .*\(150 found", capsys.readouterr().out
    )


@pytest.mark.slow
def test_captions(tmp_path, capsys):
    lines = (f"a {'big ' * (i % 4)}dog runs .\thttp://{i}.jpg\n" for i in range(50))
    (tmp_path / "real.tsv").write_text("".join(lines))
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "big", "dog", "runs", "."]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocab))
    files = [f"--captions={tmp_path}/real.tsv", f"--vocab={tmp_path}/vocab.txt"]
    assert captions.main([*files, "--rows=200", "--validation=20"]) == 0
    cold, warm = capsys.readouterr().out.splitlines()
    for line, state in ((cold, "cold"), (warm, "warm")):
        assert line.startswith(f"ours, {state}: 190 captions, first batch after")


@pytest.mark.slow
def test_accelerator(tmp_path, capsys, monkeypatch):
    bad = accelerator.Cell("bad", "train_step.py", ("--models=vlbert", "--mesh=1,8,1"))
    dear = accelerator.Cell("dear", "train_step.py", needs=("no_such_package",))
    monkeypatch.setattr(accelerator, "TOY", (bad, dear, *accelerator.TOY))
    arguments = ["--toy", "--minutes=9", f"--out={tmp_path}"]
    assert accelerator.main(arguments) == 1
    results = {one["name"]: one for one in json.loads((tmp_path / "results.json").read_text())}
    assert results.pop("bad")["state"].startswith("failed: ")
    assert {one["state"] for one in results.values()} == {"done"}
    assert all(one["rows"] for one in results.values())
    correct = results["correctness"]["rows"]
    assert [row["outside"] == "" for row in correct] == [True, False]
    assert correct[0]["gradient_error_worst"] < 1e-4 < correct[1]["gradient_error_median"] < 0.05
    ways = {row["way"]: row for row in results["attention"]["rows"]}
    assert ways["xla"]["largest_difference"] < 1e-5
    table = (tmp_path / "table.md").read_text()
    assert "**dear**: not run, needs no_such_package" in table
    assert "| step vlbert mini 8, ours | full |" in table
    # What is done is not done again; no time is told.
    monkeypatch.setattr(accelerator, "ENOUGH", 1e6)
    capsys.readouterr()
    assert accelerator.main(arguments) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"\*\*(.*)\*\*: not run", printed) == ["bad", "dear"]
    assert "| step vlbert mini 8, ours | full |" in printed


def test_cells_of_the_accelerator_are_named(capsys):
    assert accelerator.main(["--list", "--only=step vilbert*,corr*"]) == 0
    names = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [
        "correctness",
        *(f"step vilbert base {n}" for n in ("256", "256 peer", "512", "64")),
    ]
    with pytest.raises(SystemExit):
        accelerator.main(["--only=nothing"])
    assert "no cell is named 'nothing'" in capsys.readouterr().err


def test_a_cell_of_the_accelerator_that_takes_too_long_is_cut_off(tmp_path):
    cell = accelerator.TOY[0]
    found = accelerator.run(cell, tmp_path, 0.5)
    assert found["state"] == "cut off: no time left"
    assert found["rows"] == []
    memory = "E0000 RESOURCE_EXHAUSTED: Out of memory"
    assert accelerator._state(1, False, memory) == "does not fit the device's memory"


@pytest.mark.slow
def test_ranking():
    sizes = "--texts=4", "--images=4", "--text=6", "--regions=5", "--features=16", "--rounds=1"
    found = json.loads(run_benchmark("ranking.py", *sizes))
    assert found["largest_difference"] < 1e-4
    assert min(found["pairs_per_second"].values()) > 0


@pytest.mark.slow
def test_meshes():
    for options, wanted in (
        ((), ("55.1 MiB", "55.1 MiB")),
        (["--whole_state"], ("437 MiB", "55.1 MiB")),
    ):
        printed = run_benchmark(
            "meshes.py", "--state_only", "--models=vlbert", "--meshes=8,1,1:1,8,1", *options
        )
        found = tuple(line.split("|")[3].strip() for line in printed.splitlines()[2:])
        assert found == wanted


@pytest.mark.slow
def test_extraction(tmp_path):
    out = tmp_path / "out.json"
    sizes = "--depth=50", "--width=8", "--short=64", "--long=96", "--proposals=20", "--boxes=8"
    printed = run_benchmark("extraction.py", *sizes, "--batch=2", "--rounds=1", f"--json={out}")
    (row,) = json.loads(out.read_text())
    assert row["canvas"] == "64x96"
    assert f"{row['pictures_per_second']:.1f} pictures/s" in printed
    assert min(row["host_ms"], row["device_ms"], row["compile_seconds"]) > 0


@pytest.mark.slow
def test_padding(tmp_path):
    sizes = "scenes.train=200", "scenes.validation=4", "scenes.test=4", "vocab_size=600"
    data = [f"--config.data.{one}" for one in (*sizes, f"dir={tmp_path}")]
    printed = run_benchmark(
        "padding.py",
        "--config=configs/vlbert_pretrain.py",
        *data,
        "--config.streams.captions.buckets=((13,6,16),(16,7,20))",
        "--draws=8",
    )
    found = re.findall(r"(?:without|with) buckets: padding (.*)%, operations (.*)%", printed)
    whole, less = (tuple(map(float, pair)) for pair in found)
    assert whole[0] > less[0] > 0
    assert whole[1] == 100 > less[1] > 100 * (1 - whole[0] / 100)
    batches = re.findall(r"(\d+) batches of", printed)
    assert sum(map(int, batches)) == 2 * 8 * len(re.findall("examples; percentiles", printed))
    (proposed,) = re.findall(r'proposed --config.streams.captions.buckets="(.*)"', printed)
    assert len(ast.literal_eval(proposed)) == 3


@pytest.mark.parametrize("model", ["vlbert", "vilbert"])
def test_proposed_buckets_leave_less_padding_than_any_other(model):
    together = dict(vlbert=9, vilbert=14)[model]
    block = ml_collections.ConfigDict(
        dict(images=True, max_text=9, max_regions=5, max_length=together, buckets=())
    )
    drawn = np.random.default_rng(0).integers((3, 2), (9, 6), (300, 2)).T
    lengths = np.stack(limits.joint_lengths(*drawn, together))
    sizes = ml_collections.ConfigDict(dict(name=model))

    def positions(buckets):
        known = (*buckets, *limits.sizes(block))
        numbers = limits.smallest(known, *lengths)
        return sum(throughput.row_length(sizes, block, known[n]) for n in numbers)

    (found,) = padding.propose(lengths, sizes, block, 1)
    everything = [
        limits.Bucket(text, regions, both)
        for text, regions in itertools.product(range(3, 9), range(2, 6))
        for both in range(max(4, text), min(text + regions, together) + 1)
    ]
    assert positions([found]) == min(positions([one]) for one in everything) < positions([])
    assert positions(padding.propose(lengths, sizes, block, 3)) < positions([found])


def test_proposed_buckets_rise():
    """Of long texts with few regions and short ones with many no bucket holds both kinds."""
    lengths = np.repeat([[9, 2], [3, 5], [9, 5]], [60, 40, 2], axis=0).T
    block = ml_collections.ConfigDict(
        dict(images=True, max_text=9, max_regions=5, max_length=14, buckets=())
    )
    sizes = ml_collections.ConfigDict(dict(name="vilbert"))
    assert padding.propose(lengths, sizes, block, 3) == ((3, 5, 8),)
    assert padding.propose(lengths[:, -2:], sizes, block, 3) == ()


@pytest.mark.slow
def test_multitask(tmp_path):
    sizes = "scenes.train=24", "scenes.validation=4", "scenes.test=4", "vocab_size=600"
    data = [f"--config.data.{one}" for one in (*sizes, f"dir={tmp_path / 'data'}")]
    out = tmp_path / "out.json"
    options = "--tasks=entailment+refcoco", "--rounds=2", "--repeats=2", f"--json={out}"
    printed = run_benchmark("multitask.py", *options, *data)
    found = json.loads(out.read_text())
    assert list(found["tasks"]) == ["refcoco", "entailment"]
    alone = sum(row["update_ms"] for row in found["tasks"].values())
    assert found["share"] == pytest.approx(alone / found["round_ms"])
    assert found["programs"] == 2
    assert not found["recompiled"]
    assert f"{found['share']:.1%} of the mean of single-task runs" in printed


def test_vision(tmp_path, capsys, monkeypatch):
    sizes = "--rows=5 --columns=7 --channels=4 --boxes=6 --bins=3 --candidates=40 --kept=9"
    out = tmp_path / "out.json"
    vision.main([*sizes.split(), "--rounds=2", "--json", str(out)])
    rows = json.loads(out.read_text())
    assert [row["operator"] for row in rows][2:] == ["RoIPool", "suppression"]
    assert all(0 < row["ours_least_ms"] <= row["ours_ms"] for row in rows)
    assert "suppression" in capsys.readouterr().out
    monkeypatch.setattr(vision.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        vision.main(["--peer"])
    assert "pip install torch torchvision" in capsys.readouterr().err


def test_vision_beside_its_peer(tmp_path):
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    sizes = "--rows=9 --columns=12 --channels=4 --boxes=20 --bins=3 --candidates=90 --kept=30"
    out = tmp_path / "out.json"
    vision.main([*sizes.split(), "--rounds=1", "--peer", "--json", str(out)])
    found = {row["operator"]: row["difference"] for row in json.loads(out.read_text())}
    assert found["RoIPool"] == found["suppression"] == 0
    assert max(found.values()) < 1e-5


def test_inference(tmp_path, capsys):
    out = tmp_path / "out.json"
    small = "--models=vilbert --size=mini --batches=2 --regions=3 --features=16 --rounds=2"
    inference.main([*small.split(), "--json", str(out)])
    rows = json.loads(out.read_text())
    assert [(row["way"], row["batch"]) for row in rows] == [("api", 2), ("loop", 2)]
    for row in rows:
        assert row["questions_per_second"] * row["ms_p50"] == pytest.approx(2000, rel=0.1)
        assert row["ms_p50"] <= row["ms_p95"]
    head, _, first = capsys.readouterr().out.splitlines()[1:4]
    assert f"| vilbert mini | 2 | api | {rows[0]['ms_p50']:,} |" in first
    assert head.count("|") == first.count("|")
    assert min(row["cpu_ms_p50"] for row in rows) > 0


def test_inference_without_its_peer(monkeypatch, capsys):
    monkeypatch.setattr(inference.inference_peer, "missing", lambda: ["torch"])
    monkeypatch.setattr(inference, "measure", lambda *_: pytest.fail("it began"))
    with pytest.raises(SystemExit):
        inference.main(["--peer"])
    assert "--peer needs torch" in capsys.readouterr().err


@pytest.mark.slow
def test_inference_beside_its_peer(capsys):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    small = "--size=mini --batches=2 --regions=3 --features=16 --rounds=1 --peer"
    inference.main(small.split())
    assert capsys.readouterr().out.count("| peer |") == 2


def test_the_table_of_a_start_is_of_its_best_round():
    spent = {"imports": (2.0, 1.0), "first step": (4.0, 3.0)}
    programs = [[f"jit({name})", seconds] for name, seconds in (("a", 0.1), ("step", 2.5))]
    best = dict(spent=spent, wall=6.0, cpu=4.0, programs=programs, hits=1)
    lines = start.table([best | dict(cpu=5.0, spent={}), best]).splitlines()
    assert lines[2] == "| imports | 2.0 | 1.0 | 25 % |"
    assert "| first step | 4.0 | 3.0 | 75 % |" in lines
    assert "2 programs, 1 of them kept; seconds each:" in lines
    assert "jit(step) 2.5, jit(a) 0.1" in lines
    assert lines[-1] == "CPU seconds of all rounds: 5.0, 4.0"


def test_imports_by_package():
    log = """import time: self [us] | cumulative | imported package
import time:    200000 |     200000 |   jax.numpy
import time:    300000 |     500000 | jax
noise
import time:    400000 |     900000 | main
"""
    assert start.packages(log) == {"jax": 0.5, "main": 0.4}


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tmp_path):
    line = ["--config=configs/vlbert_pretrain.py", "--config.evals.visual_gain.rounds=1"]
    sizes = "scenes.train=96", "scenes.validation=24", "scenes.test=4"
    line += [f"--config.data.{size}" for size in sizes]
    cold, warm = (start.start(line, tmp_path / "data", tmp_path / "kept")[0] for _ in range(2))
    assert not cold["hits"]
    assert warm["hits"] == len(warm["programs"]) == len(cold["programs"])
    for found in (cold, warm):
        assert sum(cpu for _, cpu in found["spent"].values()) == pytest.approx(found["cpu"])
        assert set(start.PARTS) <= set(found["spent"])


def test_a_start_without_a_first_step_is_told(tmp_path):
    with pytest.raises(start.UserError, match=r"no first step(?s:.)*no_such_field"):
        start.start(["--config=configs/vqa.py", "--config.no_such_field=1"], tmp_path, tmp_path)
