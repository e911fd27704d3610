import builtins
import sys
import types

import pytest

from core.errors import ConfigError
from training.run import tracking


class FakeRun:
    def __init__(self):
        self.lines, self.finished = [], False

    def log(self, line, step):
        self.lines.append((step, line))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A wandb that keeps what it is told: `begun` (arguments of init) and `runs`."""
    fake = types.SimpleNamespace(Error=type("Error", (Exception,), {}), begun=[], runs=[])

    def init(**arguments):
        fake.begun.append(arguments)
        fake.runs.append(FakeRun())
        return fake.runs[-1]

    fake.init = init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_lines_and_config_arrive(wandb):
    tracker = tracking.Tracker("grounding", "gs://bucket/runs/vqa/", {"seed": 3})
    tracker.write(50, {"train/loss": 1.5})
    tracker.write(50, {"evals/validation/accuracy": 0.5})
    tracker.close()
    (begun,), (run,) = wandb.begun, wandb.runs
    assert (begun["project"], begun["name"], begun["config"]) == ("grounding", "vqa", {"seed": 3})
    assert run.lines == [(50, {"train/loss": 1.5}), (50, {"evals/validation/accuracy": 0.5})]
    assert run.finished


def test_a_restarted_run_continues_its_page_and_another_has_its_own(wandb):
    for name in ("gs://b/runs/vqa", "gs://b/runs/vqa/", "gs://b/other/vqa"):
        tracking.Tracker("p", name, {})
    first, again, other = wandb.begun
    assert first["id"] == again["id"] != other["id"]
    assert first["resume"] == "allow"
    assert first["id"].isalnum()


def test_without_a_project_wandb_is_not_even_imported(monkeypatch, wandb):
    imported, original = [], builtins.__import__

    def record(name, *args, **kwargs):
        imported.append(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", record)
    tracker = tracking.Tracker("", "runs/vqa", {})
    tracker.write(1, {"train/loss": 1.0})
    tracker.close()
    assert "wandb" not in imported
    tracking.Tracker("p", "runs/vqa", {})
    assert "wandb" in imported


def test_a_missing_wandb_and_one_that_refuses_tell_the_fix(monkeypatch, wandb):
    def refuse(**arguments):
        raise wandb.Error("no API key")

    wandb.init = refuse
    with pytest.raises(ConfigError, match=r"no API key\n.*wandb login"):
        tracking.Tracker("p", "runs/vqa", {})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        tracking.Tracker("p", "runs/vqa", {})
