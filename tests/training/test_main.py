"""main.py on the embedded data, as a user runs it: killed, restarted, evaluated, overfitted."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from checkpoints import checkpoint
from configs import vlbert_pretrain
from core import interrupts
from core.errors import UserError
from training import loop, setup
from training.run import metrics, runfolder, tracking

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 60


def command(workdir, data, *more):
    return [
        sys.executable,
        "main.py",
        "--config=configs/vlbert_pretrain.py",
        f"--workdir={workdir}",
        f"--config.data.dir={data}",
        "--config.data.scenes.train=96",
        "--config.data.scenes.validation=24",
        "--config.data.scenes.test=8",
        "--config.data.vocab_size=600",
        "--config.streams.captions.batch_size=16",
        "--config.evals.validation.batch_size=8",
        "--config.evals.visual_gain.batch_size=8",
        "--config.model.hidden=32",
        "--config.model.layers=2",
        "--config.model.dropout=0.1",
        f"--config.total_steps={STEPS}",
        "--config.optimizer.warmup_steps=5",
        "--config.log_every=3",
        "--config.eval_every=20",
        "--config.checkpoint.every=5",
        *more,
    ]


def start(*args):
    return subprocess.Popen(
        command(*args),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(args[1].parent / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        },
    )


def finish(*args) -> str:
    process = start(*args)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def curve(workdir):
    return [metrics.untimed(line) for line in metrics.read(workdir / metrics.FILE)]


def steps_of(workdir):
    folder = workdir / checkpoint.FOLDER
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())


@pytest.mark.slow
def test_a_killed_run_ends_like_an_unbroken_one(tmp_path):
    whole, broken, data = tmp_path / "whole", tmp_path / "broken", tmp_path / "data"
    out = finish(whole, data)
    assert out.splitlines()[0] == f"run folder: {whole}"
    summary = json.loads((whole / "summary.json").read_text())
    assert "step 27: losses of captions, truth are added from here on" in out
    word = "loss/cloze/masked_word"
    assert summary["train"][word] < metrics.read(whole / metrics.FILE)[1][f"train/{word}"]
    assert summary["before"]["visual_gain"] == pytest.approx(0, abs=5)
    for name in ("visual_gain", "word_accuracy", "word_accuracy_other_image", "mlm_accuracy",
                 "mvrc_accuracy", "examples_per_second"):  # fmt: skip
        assert np.isfinite(summary[name])
    assert set(summary["losses"]) == {"masked_language", "masked_region", "phrase_grounding"}
    assert 0 < summary["priors"]["all"]["prior"] < 1
    assert (whole / "loss.png").exists()

    process = start(broken, data)
    until = time.monotonic() + 200
    while len(steps_of(broken)) < 2:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(np.random.default_rng().uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < steps_of(broken)[-1] < STEPS
    assert "resumed at step" in finish(broken, data)
    assert curve(broken) == curve(whole)

    finish(whole, data, "--mode=eval")
    evaluation = json.loads((whole / "evaluation.json").read_text())
    best = summary["best"]
    assert (evaluation["step"], evaluation[best["metric"]]) == (best["step"], best["value"])


@pytest.mark.slow
def test_overfit_learns_its_few_examples(tmp_path):
    finish(
        tmp_path / "run",
        tmp_path / "data",
        "--config.overfit=16",
        "--config.model.hidden=64",
        "--config.model.dropout=0.0",
        "--config.optimizer.lr=0.003",
        "--config.optimizer.warmup_steps=20",
        "--config.total_steps=400",
        "--config.eval_every=400",
        "--config.checkpoint.every=400",
    )
    last = [x for x in metrics.read(tmp_path / "run" / metrics.FILE) if "train/loss" in x][-1]
    assert last["train/captions/mlm_accuracy"] > 0.9
    assert last["train/captions/mvrc_accuracy"] > 0.9


def test_a_run_folder_has_a_short_name_after_its_command():
    name = runfolder.name_of("configs/vqa.py:model=vlbert,size=mini", {})
    assert str(name) == "runs/vqa-vlbert-mini"
    name = runfolder.name_of("configs/retrieval.py:zero_shot=true", {"optimizer.lr": 0.1})
    assert re.fullmatch(r"runs/retrieval-zero_shot=true-lr=0\.1-[0-9a-f]{6}", str(name))
    fields = {f"data.f{i}": "/x/" + "y" * 300 for i in range(30)} | {"seed": 1}
    long = runfolder.name_of("configs/a.py", fields)
    assert len(long.name) < 60
    assert "/" not in long.name
    assert long != runfolder.name_of("configs/a.py", fields | {"data.f0": "/x/y"})
    assert long == runfolder.name_of("configs/a.py", dict(fields))


def test_a_run_that_is_refused_leaves_no_folder(tmp_path):
    folder = tmp_path / "runs" / "new"
    for written in (False, True):
        with contextlib.suppress(ValueError), runfolder.left_as_found(folder):
            folder.mkdir(parents=True)
            if written:
                (folder / "file").touch()
            raise ValueError("refused")
        assert (tmp_path / "runs").exists() == written


@pytest.mark.parametrize(
    ("mode", "fields", "told"),
    [
        ("train", {"init": "no/such/run"}, "no/such/run: no such file or folder"),
        ("train", {"init": "main.py", "init_vocab": "no.txt"}, "init_vocab=no.txt: no such file"),
        ("train", {"data.vocab": "vocab.txt"}, "--config=FILE:data=jsonl"),
        ("train", {"wandb": "project"}, "needs the wandb package"),
        ("train", {"total_steps": -5}, "config.total_steps"),
        ("eval", {}, "no parameters to use"),
        ("eval", {"init": "no/such/run"}, "no/such/run: no such file or folder"),
        ("predict", {}, "nothing to predict"),
    ],
)
def test_what_the_data_do_not_decide_is_told_before_they_are_opened(
    mode, fields, told, tmp_path, monkeypatch
):
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(setup, "build", lambda *_: pytest.fail("the data were opened"))
    config = vlbert_pretrain.get_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(UserError, match=re.escape(told)):
        loop.run(config, tmp_path / "runs" / "new", mode)
    assert not list(tmp_path.iterdir())


INTERRUPTED_IMPORT = """
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, *_):
        if name == "jax":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv = ["main.py", "--config=configs/vlbert_pretrain.py"]
runpy.run_path("main.py", run_name="__main__")
"""


def test_ctrl_c_while_it_loads_is_two_lines():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (interrupts.STATUS, -signal.SIGINT)
    assert done.stderr == f"{interrupts.TEXT}\n"
