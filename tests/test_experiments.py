"""Tables of experiments: declaration, runs in processes of their own, statistics."""

import csv
import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from scipy import stats

from core.errors import ConfigError, DataError
from scripts import experiments
from scripts.experimenting import declared, report, runner
from scripts.experimenting.declared import Cell, Table, Trial
from tests import made_tables

ROOT = pathlib.Path(__file__).parents[1]
# Stands in for `child run`: a trial's own seconds and end are in its changes.
FAKE = """
import json, pathlib, sys, time
folder, trial, seed, start = sys.argv[1:]
time.sleep(0.1)
if start:
    assert (pathlib.Path(start) / "result.json").is_file()
if trial.startswith("dies") and seed == "1":
    print("error: out of luck")
    sys.exit(3)
value = {"a": 0.5, "b": 0.6, "dies": 0.9}[trial[0] if trial[0] in "ab" else "dies"]
cells = [dict(value=value + int(seed) / 100, prior=0.25)]
(pathlib.Path(folder) / "result.json").write_text(json.dumps(dict(cells=cells)))
"""


def trial(name, start="", against=""):
    changes = {"total_steps": 10}
    cells = (Cell("Referring", name, made_tables.ACCURACY),)
    config = "configs/refcoco.py:model=vlbert"
    return Trial(name, config, cells, changes, start=start, against=against)


@pytest.fixture
def make_plan(tmp_path, monkeypatch):
    def child(work, plan, out, *rest):
        assert work == "run"
        return [sys.executable, "-c", FAKE, str(out), *rest]

    monkeypatch.setattr(runner, "_child", child)

    def plan(*trials, seeds=3):
        table = Table("Made up", trials, corner="%")
        table.check()
        return runner.Plan("made", table, trials, range(seeds), tmp_path / "out", "data")

    return plan


def run(plan, jobs=2):
    plan.out.mkdir(exist_ok=True)
    return runner.run(plan, jobs=jobs, devices=(), after=lambda failed: None)


def test_every_table_holds_together():
    assert declared.known()
    for name in declared.known():
        table = declared.load(name)
        for one in table.trials:
            one.config_of(0, "data")


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        ((trial("a"), trial("a")), "two trials have one name.*'a'"),
        ((trial("a", start="b"), trial("b")), "starts from one.*start of 'a'.*'b'"),
        ((trial("a", against="c"),), "compared with one.*'c'"),
        ((dataclasses.replace(trial("a"), train=False),), "does not train needs a start"),
        (
            (trial("a"), dataclasses.replace(trial("b"), cells=trial("a").cells)),
            "two cells stand in one place",
        ),
        (
            (trial("a"), dataclasses.replace(trial("b", against="a"), cells=())),
            "cells that do not match",
        ),
        (
            (dataclasses.replace(trial("a"), cells=(Cell("r", "c", "accuracy"),)),),
            "a metric without its evaluation.*'accuracy'",
        ),
    ],
)
def test_a_table_that_does_not_hold_together_is_refused(trials, told):
    with pytest.raises(declared.TableError, match=f"(?s){told}"):
        Table("Bad", trials).check()


@pytest.mark.parametrize(
    ("changes", "config", "told"),
    [
        (
            {"optimizer.learning_rate": 1.0},
            "configs/vqa.py",
            "no such field.*learning_rate",
        ),
        ({"total_steps": "many"}, "configs/vqa.py", "total_steps.*changes of 't'"),
        ({}, "configs/vpa.py", "no such file: configs/vpa.py"),
        ({}, "configs/vqa.py:modell=vlbert", "modell"),
    ],
)
def test_a_config_that_there_is_not_is_told(changes, config, told):
    with pytest.raises(ConfigError, match=f"(?s){told}"):
        Trial("t", config, changes=changes).config_of(0, "data")


def test_unknown_tables_and_trials_are_told(capsys):
    assert experiments.main(["downstreem"]) == 1
    assert "no such table" in capsys.readouterr().err
    assert experiments.main(["downstream", "--only=vqa/*,vpa/*"]) == 1
    assert "found: vpa/*" in capsys.readouterr().err
    assert experiments.main(["downstream", "--devices=0", "--jobs=2"]) == 1
    assert "more runs at a time than devices" in capsys.readouterr().err
    assert experiments.main([]) == 0
    assert "downstream: What pre-training brings" in capsys.readouterr().out


def test_starts_come_with_those_that_need_them():
    table = declared.load("downstream")
    wanted = table.with_starts(["vqa/vlbert/pre-trained"])
    assert [t.name for t in wanted] == ["pretrain/vlbert", "vqa/vlbert/pre-trained"]


def test_runs_follow_their_starts_and_the_dead_are_told(make_plan):
    plan = make_plan(
        trial("a"), trial("b", start="a", against="a"), trial("dies"), trial("b2", start="dies")
    )
    failed = run(plan)
    assert failed == {
        "dies, seed 1": "exit status 3, error: out of luck",
        "b2, seed 1": "not run, since dies, seed 1 died",
    }
    assert not (plan.out / "b2" / "1").exists()
    attempts = plan.job("dies", 1).attempts
    assert [a["exit_code"] for a in attempts] == [3]
    assert attempts[0]["wall_seconds"] >= 0.1
    assert attempts[0]["cpu_seconds"] > 0

    text = report.write(plan, failed, ["scripts/experiments.py", "made"])
    assert "| Referring | 25.0 | 51.0 ± 1.0 | 61.0 ± 1.0 | 91.0 ± 1.4 (2 of 3 seeds, 1 died) |" in (
        text
    )
    assert "| Referring, b | Referring, a | +10.0 | +10.0 to +10.0 (3 seeds) | yes |" in text
    assert "- dies, seed 1: exit status 3, error: out of luck" in text
    assert "    python scripts/experiments.py made" in text
    assert (plan.out / "table.md").read_text() == text
    assert (plan.out / "table.png").read_bytes().startswith(b"\x89PNG")
    with (plan.out / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12
    states = {(line["trial"], line["seed"]): line["state"] for line in lines}
    assert states["dies", "1"] == "died"
    assert states["dies", "2"] == "done"
    assert float(lines[1]["value"]) == 0.51

    # What is done is not run again; what died is.
    assert run(plan) == failed
    assert len(plan.job("a", 0).attempts) == 1
    assert len(plan.job("dies", 1).attempts) == 2


def test_a_folder_of_another_recipe_is_refused(make_plan):
    run(make_plan(trial("a"), trial("b", start="a"), seeds=1))
    changed = dataclasses.replace(trial("a"), changes={"total_steps": 20})
    plan = make_plan(changed, trial("b", start="a"), seeds=1)
    with pytest.raises(DataError, match=r"(?s)another recipe.*config.total_steps: 20.*has 10"):
        runner.check(plan)
    (plan.out / "a/0/recipe.json").write_text(json.dumps(plan.recipe(plan.job("a", 0))))
    with pytest.raises(DataError, match=r"(?s)another recipe.*b/0.*start.config.total_steps: 20"):
        runner.check(plan)


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_a_run_that_is_stopped_stops_its_processes(how, make_plan, monkeypatch):
    monkeypatch.setitem(globals(), "FAKE", "import time; time.sleep(600)")
    plan, processes = make_plan(trial("a"), seeds=2), []
    start = runner._start
    monkeypatch.setattr(runner, "_start", lambda *a: processes.append(start(*a)) or processes[-1])

    def interrupted(running):
        if how == "Ctrl-C":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(runner, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(plan)
    assert len(processes) == 2
    assert all(one.process.returncode == -15 for one in processes)


def test_the_interval_of_paired_differences():
    one = report.Measured(trial("a"), trial("a").cells[0], {}, None, (), 4)
    values = [1.0, 3.0, 2.0, 6.0]
    found = report.paired(one, one, values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.mean == 3.0
    assert math.isclose(found.mean + found.half, expected.high)
    assert found.sure  # 3.0 against a standard error of 1.08
    assert not report.paired(one, one, [1.0, -0.5, 3.0]).sure
    alone = report.paired(one, one, [1.0])
    assert (alone.mean, alone.half, alone.sure) == (1.0, None, None)


def script(*arguments):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "scripts/experiments.py", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.mark.slow
def test_ones_own_table_from_the_command_line(tmp_path):
    places = [f"--out={tmp_path / 'out'}", f"--data-dir={tmp_path / 'data'}"]
    done = script("tests.made_tables:BAD", *places)
    assert done.returncode == 1
    for text in (
        "5 trials cannot run", "found: validation/grounding_acuracy", "one of validation\n",
        "expected: share=True", "some of ['validation']", "optimizer.lr",
    ):  # fmt: skip
        assert text in done.stderr, done.stderr
    assert not list((tmp_path / "out").glob("*/*"))

    done = script("tests.made_tables:GOOD", *places, "--jobs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("scratch", "again", "as it is"):
        for seed in range(2):
            folder = tmp_path / "out" / name / str(seed)
            (cell,) = json.loads((folder / "result.json").read_text())["cells"]
            assert 0 <= cell["value"] <= 1
            assert 0 < cell["prior"] < 1
    config = json.loads((tmp_path / "out/again/1/config.json").read_text())
    assert config["seed"] == 1
    assert config["init"] == str(tmp_path / "out/scratch/1")
    assert config["data"]["eval_split"] == "validation"  # what is chosen by
    log = (tmp_path / "out/again/1/log.txt").read_text()
    assert "(split 'test')" in log
    assert "| Referring |" in done.stdout
