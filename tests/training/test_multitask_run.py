"""A run over two tasks from end to end: stops, rests, resumes, and one of its tasks by itself."""

import json
import shutil

import numpy as np
import pytest

from checkpoints import checkpoint
from runtime import paths
from tests.training.test_multihost import CLOSE, here, several
from training.run import metrics, task_report

TASKS = ("refcoco", "entailment")
# Nothing is a gain, so that both tasks rest from the second evaluation on, but in steps 4 and 8.
REST = {"threshold": 1e6, "patience": 0, "resume": 0.999, "cooldown": 0}
CHANGES = {
    "data.scenes.train": 48, "data.scenes.validation": 11, "data.scenes.test": 8,
    "data.vocab_size": 600, "model.hidden": 32, "model.layers": 2, "model.intermediate": 64,
    "model.image.hidden": 32, "model.image.intermediate": 32, "model.connect.hidden": 32,
    "model.connect.text_at": (0, 1), "optimizer.warmup_steps": 2, "log_every": 1,
    "total_steps": 10, "eval_every": 2, "checkpoint.every": 6, "checkpoint.best": "",
    "predict.examples": 4,
} | {f"stream_schedule.stop_and_go.{name}": value for name, value in REST.items()}  # fmt: skip
CONFIG = "multitask:model=vilbert,tasks="


def of(*tasks, **more):
    """The changes of a config of some tasks."""
    sizes = {f"{place}.{task}.batch_size": 16 for task in tasks for place in ("streams", "evals")}
    return CHANGES | sizes | more


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("multitask")


@pytest.fixture(scope="module")
def whole(folder):
    here(CONFIG + "+".join(TASKS), of(*TASKS), folder / "whole", folder)
    return folder / "whole"


def lines_of(run):
    return [metrics.untimed(line) for line in metrics.read(run / metrics.FILE)]


def last_scores(run):
    return [line for line in metrics.read(run / metrics.FILE) if "tasks/mean" in line][-1]


@pytest.mark.slow
def test_tasks_rest_together_and_learn_between_gaps(whole):
    lines = lines_of(whole)
    learned = {
        task: [line["step"] - 1 for line in lines if f"train/loss/{task}/{task}" in line]
        for task in TASKS
    }
    assert learned == {task: [0, 1, 2, 3, 4, 8] for task in TASKS}
    found = json.loads((whole / "summary.json").read_text())["tasks"]
    for task in TASKS:
        assert found[task]["updates"] == 6
        assert found[task]["stops"] == [4]
        assert [step for step, _ in found[task]["scores"]] == [0, 2, 4, 6, 8, 10]
    assert (whole / task_report.FILE).exists()


@pytest.mark.slow
def test_another_number_of_processes_goes_on_in_the_middle_of_a_rest(whole, folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "checkpoints" / "10")
    code, out = several(2, 4, CONFIG + "+".join(TASKS), of(*TASKS), run, folder)
    assert code == 0, out
    assert "resumed at step 6" in out
    meta = [
        checkpoint.read_meta(checkpoint.absolute(one) / "checkpoints" / "10")[0]
        for one in (whole, run)
    ]
    assert meta[0]["draws"] == meta[1]["draws"] == dict.fromkeys(TASKS, 6)
    assert {
        name: one["stopped"] for name, one in meta[1]["stream_schedule"].items()
    } == dict.fromkeys(TASKS, True)
    assert lines_of(run)[-1].keys() == lines_of(whole)[-1].keys()
    for a, b in zip(lines_of(run), lines_of(whole), strict=True):
        assert {k for k in a if k.startswith("train/loss")} <= set(b)
        for name in a:
            if name.startswith(("train/loss", "tasks/")):
                assert a[name] == pytest.approx(b[name], rel=CLOSE, abs=1e-6), name
    arrays = [paths.flatten(checkpoint.load_params(one)[0]) for one in (whole, run)]
    for path in arrays[0]:
        np.testing.assert_allclose(arrays[0][path], arrays[1][path], atol=2e-4, err_msg=path)


@pytest.mark.slow
def test_one_task_of_several_by_itself(whole, folder):
    changes = of("refcoco", init=str(whole))
    here(CONFIG + "refcoco", changes, folder / "one", folder, "eval")
    found = json.loads((folder / "one" / "evaluation.json").read_text())
    want = last_scores(whole)["evals/refcoco/refcoco_accuracy"]
    assert found["evals/refcoco/refcoco_accuracy"] == pytest.approx(want, rel=1e-6)
    here(
        CONFIG + "entailment", of("entailment", init=str(whole)), folder / "two", folder, "predict"
    )
    rows = (folder / "two" / "predictions" / "validation.jsonl").read_text().splitlines()
    assert {json.loads(row)["name"] for row in rows} <= {"contradiction", "entailment"}
    # Fine-tuning begins where the run over several tasks ended.
    tuned = of("refcoco", init=str(whole), total_steps=2)
    here(CONFIG + "refcoco", tuned, folder / "tuned", folder)
    first = next(line for line in lines_of(folder / "tuned") if not line["step"])
    assert first["evals/refcoco/refcoco_accuracy"] == pytest.approx(want, rel=1e-6)


@pytest.mark.slow
def test_a_dry_run_plans_an_update_of_each_task(folder):
    changes = of(*TASKS, **{"dry_run.assume": True, "dry_run.topology": "cpu:1"})
    found = here(CONFIG + "+".join(TASKS), changes, folder / "planned", folder, "dry_run")
    assert found["updates_per_step"] == 2
    assert found["batch_sizes"] == dict.fromkeys(TASKS, 16)
    # XLA counts both programs, as the model's operations are of both updates.
    assert found["flops"]["xla"] == pytest.approx(found["flops"]["model"], rel=0.3)
    assert found["memory"]["temporaries"] > found["memory"]["batch"] > 0
