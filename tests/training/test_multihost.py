"""main.py itself as two and four processes: the figures and files of one process.

Tolerance: losses and metrics within 1e-4 relative, as between meshes (test_meshes.py).
"""

import importlib
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from checkpoints import checkpoint
from checkpoints.checkpoint import FOLDER
from core.errors import DataError
from runtime import cluster
from training import data_metadata, loop
from training.run import metrics
from training.run.metrics import FILE

ROOT = pathlib.Path(__file__).parents[2]
CLOSE = 1e-4
# 55 captions of 11 images, in batches of 16: the last one holds 7.
COMMON = {
    "data.scenes.train": 48, "data.scenes.validation": 11, "data.scenes.test": 8,
    "data.vocab_size": 600, "model.hidden": 32, "model.layers": 2, "model.intermediate": 64,
    "optimizer.warmup_steps": 2, "log_every": 1, "evals.validation.batch_size": 16,
}  # fmt: skip
TWO_STREAMS = {
    "model.image.hidden": 32, "model.image.intermediate": 32, "model.connect.hidden": 32,
    "model.connect.text_at": (0, 1),
}  # fmt: skip
PRETRAIN = COMMON | {
    "streams.captions.batch_size": 16, "evals.visual_gain.batch_size": 16, "total_steps": 4,
    "eval_every": 4, "checkpoint.every": 2,
}  # fmt: skip
VLBERT = PRETRAIN | {"model.layers": 1}
TASK = COMMON | {
    "streams.examples.batch_size": 16, "total_steps": 2, "eval_every": 2, "checkpoint.every": 2,
    "predict.examples": 4,
}  # fmt: skip
VQA = TASK | {"evals.official.batch_size": 16, "data.answer_count": 2}
RETRIEVAL = TASK | TWO_STREAMS | {"evals.ranking.batch_size": 8, "evals.ranking.images": 4}
# Each process its own number in place of {}.
NUMBERED = (
    "import os, runpy, sys; sys.argv[1:] = [x.replace('{}', os.environ['JAX_PROCESS_ID']) "
    "for x in sys.argv[1:]]; runpy.run_path('main.py', run_name='__main__')"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the data that all runs but the first share, and compiled programs of children."""
    return tmp_path_factory.mktemp("multihost")


def here(argument, changes, workdir, folder, mode="train"):
    """A run in this process, on its eight devices."""
    name, _, argument = argument.partition(":")
    config = importlib.import_module(f"configs.{name}").get_config(argument or None)
    config.update_from_flattened_dict(changes | {"data.dir": str(folder / "data")})
    return loop.run(config, workdir, mode)


def several(processes, devices, argument, changes, workdir, folder, mode="train", program=None):
    """The same by main.py as several processes; returns (exit code, output)."""
    name, _, argument = argument.partition(":")
    changes = {"data.dir": folder / "data"} | changes
    command = [
        *(sys.executable, "scripts/launch.py", f"--processes={processes}", f"--devices={devices}"),
        *(program or ["main.py"]),
        f"--config=configs/{name}.py:{argument}",
        *(f"--workdir={workdir}", f"--mode={mode}"),
        *(f"--config.{field}={value}" for field, value in changes.items()),
    ]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


def require_close(found, expected, where):
    found, expected = metrics.untimed(found), metrics.untimed(expected)
    assert set(found) == set(expected), where
    for name in found:
        want = expected[name]
        if isinstance(want, float):
            want = pytest.approx(want, rel=CLOSE, abs=1e-6)
        assert found[name] == want, (where, name)


def require_same_curve(workdir, expected):
    found, wanted = (metrics.read(run / FILE) for run in (workdir, expected))
    assert [line["step"] for line in found] == [line["step"] for line in wanted]
    for a, b in zip(found, wanted, strict=True):
        require_close(a, b, a["step"])


def evaluation(workdir):
    found = json.loads((workdir / "evaluation.json").read_text())
    del found["source"]
    return found


def files(workdir):
    """Names of all files, without what Orbax writes in a checkpoint."""
    found = {str(p.relative_to(workdir)) for p in workdir.rglob("*") if p.is_file()}
    return {name for name in found if not name.startswith((FOLDER, "tensorboard"))}


def steps_of(workdir):
    return sorted(path.name for path in (workdir / FOLDER).iterdir())


@pytest.fixture(scope="module")
def alone(folder):
    here("vlbert_pretrain", VLBERT, folder / "alone", folder)
    return folder / "alone"


@pytest.fixture(scope="module")
def two(folder):
    """Two processes; each array is split over the devices of both. The data are not there yet."""
    changes = VLBERT | {"mesh.data": 1, "mesh.fsdp": 4, "data.dir": folder / "fresh"}
    code, out = several(2, 2, "vlbert_pretrain", changes, folder / "two", folder)
    assert code == 0, out
    return folder / "two", out


@pytest.mark.slow
def test_two_processes_are_as_one(alone, two, folder):
    """Losses, gradient norms of every layer, evaluations with a partial batch; files."""
    workdir, out = two
    require_same_curve(workdir, alone)
    for line in metrics.read(workdir / FILE):
        norms = [v for k, v in line.items() if k.startswith("train/gradient_norm/")]
        if norms:
            assert math.hypot(*norms) == pytest.approx(line["train/gradient_norm"], rel=1e-5)
    for text in ("probe words of scenes", "parameters from scratch", "step 4 visual_gain", "done:"):
        assert out.count(text) == 1, out
    assert files(workdir) == files(alone) | {"command.json"}  # `alone` has no command line
    assert steps_of(workdir) == steps_of(alone) == ["2", "4"]
    assert not list((folder / "fresh").rglob("*.tmp-*"))
    found, wanted = (json.loads((run / "summary.json").read_text()) for run in (workdir, alone))
    assert found["visual_gain"] == wanted["visual_gain"]
    assert found["devices"].startswith("4 ×")
    arrays = [checkpoint.load_params(run)[0] for run in (workdir, alone)]
    for a, b in zip(*(leaves(tree) for tree in arrays), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def leaves(tree):
    return [leaf for value in tree.values()
            for leaf in (leaves(value) if isinstance(value, dict) else [value])]  # fmt: skip


def test_processes_with_other_data_are_told_apart(monkeypatch):
    monkeypatch.setattr(cluster, "told_by_first", lambda text: '{"streams.text": "aa", "x": "b"}')
    data_metadata.require_same_on_all_processes({"streams.text": "aa", "x": "b"})
    with pytest.raises(DataError, match=r"process 0 on .*\['x'\][^\0]*b[^\0]*found: c"):
        data_metadata.require_same_on_all_processes({"streams.text": "aa", "x": "c"})


@pytest.mark.slow
def test_one_and_four_processes_continue_what_two_saved(alone, two, folder, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(two[0], workdir)
    shutil.rmtree(workdir / FOLDER / "4")
    here("vlbert_pretrain", VLBERT, workdir, folder)
    require_same_curve(workdir, alone)
    shutil.rmtree(workdir / FOLDER / "4")
    changes = VLBERT | {"mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2}
    code, out = several(4, 2, "vlbert_pretrain", changes, workdir, folder)
    assert code == 0, out
    assert out.count("resumed at step 2") == 1
    assert steps_of(workdir) == ["2", "4"]
    require_same_curve(workdir, alone)


@pytest.mark.slow
def test_two_processes_train_vilbert_as_one(folder, tmp_path):
    """In buckets, and its alignment is evaluated, too."""
    changes = PRETRAIN | TWO_STREAMS | {"evals.alignment.batch_size": 16}
    changes |= {"streams.captions.buckets": ((15, 7, 19),)}
    here("vilbert_pretrain", changes, tmp_path / "alone", folder)
    code, out = several(2, 2, "vilbert_pretrain", changes, tmp_path / "two", folder)
    assert code == 0, out
    require_same_curve(tmp_path / "two", tmp_path / "alone")
    assert out.count("step with new sizes") == 1
    last = metrics.read(tmp_path / "two" / FILE)[-1]
    assert 0 < last["evals/alignment/pair_accuracy"] < 1


def predictions(workdir):
    (path,) = (workdir / "predictions").iterdir()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_answers_are_evaluated_and_predicted_on_any_number_of_processes(folder, tmp_path):
    here("vqa", VQA, tmp_path / "alone", folder)
    for name in ("two", "four"):
        shutil.copytree(tmp_path / "alone", tmp_path / name)
    for mode in ("eval", "predict"):
        here("vqa", VQA, tmp_path / "alone", folder, mode)
    for name, processes, mode in (("two", 2, "predict"), ("four", 4, "eval")):
        code, out = several(processes, 1, "vqa", VQA, tmp_path / name, folder, mode)
        assert code == 0, out
    require_close(evaluation(tmp_path / "four"), evaluation(tmp_path / "alone"), "vqa")
    assert out.count("official (split 'validation'): accuracy") == 1
    found, wanted = predictions(tmp_path / "two"), predictions(tmp_path / "alone")
    assert len({row["id"] for row in wanted}) == len(wanted) > 16
    assert len(wanted) % 16
    assert [row["id"] for row in found] == [row["id"] for row in wanted]
    for a, b in zip(found, wanted, strict=True):
        assert a["answer"] == b["answer"]
    written = files(tmp_path / "two")
    assert written == files(tmp_path / "alone") - {"evaluation.json"}
    assert {"report/index.html", "predictions/validation.jsonl"} < written


@pytest.mark.slow
def test_images_are_ranked_on_any_number_of_processes(folder, tmp_path):
    """Also where process 0 alone has the scores of an interrupted ranking."""
    here("retrieval", RETRIEVAL, tmp_path / "alone", folder)
    shutil.copytree(tmp_path / "alone", tmp_path / "two")
    here("retrieval", RETRIEVAL, tmp_path / "alone", folder, "eval")
    code, out = several(2, 2, "retrieval", RETRIEVAL, tmp_path / "two", folder, "eval")
    assert code == 0, out
    require_same_ranking(tmp_path / "two", tmp_path / "alone")
    path = tmp_path / "two" / "rankings" / "ranking" / "eval.scores.npy"
    scores = np.load(path, mmap_mode="r+")
    scores[8:16, :4] = scores[-8:, -3:] = np.nan
    scores.flush()
    (tmp_path / "two" / "evaluation.json").unlink()
    changes = RETRIEVAL | {"mesh.data": 1, "mesh.fsdp": 4}
    code, out = several(4, 1, "retrieval", changes, tmp_path / "two", folder, "eval")
    assert code == 0, out
    assert out.count("pairs are scored already") == 1
    require_same_ranking(tmp_path / "two", tmp_path / "alone")


def require_same_ranking(workdir, expected):
    require_close(evaluation(workdir), evaluation(expected), "ranking")
    found, wanted = (
        np.load(run / "rankings" / "ranking" / "eval.scores.npy") for run in (workdir, expected)
    )
    assert wanted.shape == (55, 11)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.ptp(wanted) > 1e-3
    assert files(workdir) == files(expected)
    lines = [
        (run / "rankings" / "ranking" / "eval.jsonl").read_text().splitlines()
        for run in (workdir, expected)
    ]
    for a, b in zip(*(map(json.loads, found) for found in lines), strict=True):
        assert (a["id"], a["image"]) == (b["id"], b["image"])


@pytest.mark.slow
def test_hosts_with_folders_of_their_own_prepare_the_same_data(alone, folder, tmp_path):
    numbered = ["--", "-c", NUMBERED]
    changes = VLBERT | {"data.dir": tmp_path / "data{}", "mesh.data": 4}
    code, out = several(
        2, 2, "vlbert_pretrain", changes, tmp_path / "two", folder, program=numbered
    )
    assert code == 0, out
    assert out.count("probe words of scenes") == 2
    require_same_curve(tmp_path / "two", alone)
    # Another seed on one of the hosts: other pictures. Nothing is trained then.
    changes |= {"data.scenes.seed": "{}"}
    code, out = several(
        2, 2, "vlbert_pretrain", changes, tmp_path / "other", folder, program=numbered
    )
    assert code == 1
    assert "[0] process 1 of 2" in out
    assert "read different data" in out
    assert "Traceback" not in out
    assert not (tmp_path / "other" / FILE).exists()
