"""The course of each task of a run: its scores, where it rested, the table and the picture."""

import math

import pytest

from core import remote
from core.errors import ConfigError
from core.headings import Heading
from training.run import scores, task_report

METRICS = {"vqa": "evals/vqa/accuracy", "nlvr2": "evals/nlvr2/accuracy"}


def line(step, stopped=0.0, **values):
    """A line of metrics.jsonl after an evaluation of some tasks."""
    out = {"step": step}
    for task, value in values.items():
        out |= {f"tasks/{task}/score": value, f"evals/{task}/accuracy_prior": 0.2}
    for task in METRICS:
        out |= {f"tasks/{task}/updates": step, f"tasks/{task}/stopped": 0.0}
    return out | {"tasks/vqa/stopped": stopped}


LINES = [
    line(0, vqa=0.1, nlvr2=0.5),
    {"step": 5, "train/loss": 1.0},
    line(10, vqa=0.5),
    line(20, 1.0, vqa=0.5, nlvr2=0.6),
    line(30, vqa=0.4),
    line(40, 1.0, vqa=0.45, nlvr2=0.7),
]


def test_the_course_of_tasks_with_intervals_of_their_own():
    found = task_report.collect(LINES, METRICS)
    assert found["vqa"] == dict(
        metric="evals/vqa/accuracy",
        scores=[[0, 0.1], [10, 0.5], [20, 0.5], [30, 0.4], [40, 0.45]],
        prior=0.2,
        updates=40,
        stops=[20, 40],
        goes=[30],
    )
    assert found["nlvr2"]["scores"] == [[0, 0.5], [20, 0.6], [40, 0.7]]
    assert not found["nlvr2"]["stops"]
    known = {metric: Heading("", "share") for metric in METRICS.values()}
    shown = task_report.table(found, known).splitlines()
    assert shown[1].split("  ")[-1].strip() == "20–30, 40–"
    cells = [cell.strip() for cell in shown[1].split("  ") if cell.strip()]
    assert cells[:7] == ["vqa", "vqa/accuracy", "10.0 %", "50.0 %", "10", "45.0 %", "20.0 %"]
    assert "70.0 %" in shown[2]


def test_a_picture_and_a_run_that_has_not_been_evaluated(tmp_path):
    pytest.importorskip("matplotlib")
    path = task_report.draw(remote.path(tmp_path), task_report.collect(LINES, METRICS))
    assert path.read_bytes().startswith(b"\x89PNG")
    empty = task_report.collect([], METRICS)
    assert empty["vqa"]["scores"] == []
    assert len(task_report.table(empty, {}).splitlines()) == 3
    assert task_report.draw(remote.path(tmp_path), empty)


def test_the_mean_is_of_the_newest_score_of_each_task_above_guessing():
    made = scores.Scores(METRICS)
    assert made.take({"evals/vqa/accuracy": 0.6, "evals/vqa/accuracy_prior": 0.2}, whole=False) == {
        "tasks/vqa/score": 0.6
    }
    found = made.take({"evals/nlvr2/accuracy": 0.7}, whole=False)
    assert found["tasks/nlvr2/score"] == 0.7
    assert found[scores.MEAN] == pytest.approx((0.5 + 0.7) / 2)
    again = scores.Scores(METRICS, made.state())
    later = again.take({"evals/vqa/accuracy": 0.2, "evals/vqa/accuracy_prior": 0.2}, whole=False)
    assert later[scores.MEAN] == pytest.approx(0.35)
    assert again.take({"evals/vqa/accuracy": math.nan}, whole=False) == {}
    assert again.take({"evals/other/accuracy": 0.5}, whole=False) == {}


def test_a_score_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match=r"(?s)streams\.nlvr2\.score.*'evals/vqa/accuracy'"):
        scores.Scores(METRICS).take({"evals/vqa/accuracy": 0.5}, whole=True)
    # One that no example has a label for is no mistake of the config.
    found = dict.fromkeys(METRICS.values())
    assert scores.Scores(METRICS).take(found, whole=True) == {}
