"""Stop-and-go, worked out by hand: which score stops a task, and which lets it go on."""

import itertools
import json

import pytest

from configs import common
from core.errors import ConfigError
from training import stop_and_go, stream_schedule

SCORES = {"vqa": "evals/vqa/accuracy", "nlvr2": "evals/nlvr2/accuracy"}


def verdicts(scores, **rule):
    """Whether the task is stopped after each score."""
    controller, rule = stop_and_go.Controller(), stop_and_go.Rule(**rule)
    out = []
    for score in scores:
        controller.hear(rule, score)
        out.append(controller.stopped)
    return out


def test_two_scores_in_a_row_without_a_gain_stop():
    assert verdicts([10, 20, 30, 40, 50, 50, 50]) == [False] * 6 + [True]


def test_the_released_example():
    """tools/test_controller.py of the release: goes on below 1 % under the best."""
    scores = [10, 20, 30, 40, 50, 50, 50, 50, 49, 48, 50, 51, 52, 52, 52, 52, 52]
    # 50, 50: two failures, stop. 50: cooldown. 49 < 49.5: go. 48: cooldown. 50: a failure.
    # 51, 52: gains. 52, 52: two failures, stop. 52: cooldown. 52: a failure, stopped anyway.
    stopped = [False] * 6 + [True] * 2 + [False] * 6 + [True] * 3
    assert verdicts(scores, resume=0.01) == stopped
    # With the paper's half a percent 49 < 49.75, too, but not 49.8.
    assert verdicts([50, 50, 50, 50, 49.8, 49.8, 49.7]) == [False] * 2 + [True] * 4 + [False]


@pytest.mark.parametrize(
    ("scores", "rule", "stopped"),
    [
        ([50, 50.04, 50.04], {}, [False, False, True]),  # no gain of 0.1 %
        ([50, 50.06, 50.06], {}, [False] * 3),
        ([50, 50, 50, 50], dict(patience=2), [False, False, False, True]),
        ([50, 50], dict(patience=0), [False, True]),
        # The cooldown after a go: three failures instead of two stop it again.
        ([50, 50, 50, 50, 40, 40, 40, 40], {}, [False, False, True, True] + [False] * 3 + [True]),
        # Without one a drop right after the stop lets it go on, and two failures stop it.
        ([50, 50, 50, 40, 40, 40], dict(cooldown=0), [False, False, True, False, False, True]),
        ([0.0, 0.0, 0.0], {}, [False, False, True]),
        ([50, float("nan"), float("nan")], {}, [False, False, True]),
    ],
)
def test_rules(scores, rule, stopped):
    assert verdicts(scores, **rule) == stopped


def schedule(saved=None, **changes):
    block = common.stream_schedule_block() | dict(kind="stop_and_go")
    block["stop_and_go"] = block["stop_and_go"] | changes
    setting = stream_schedule.Setting(block, ["vqa", "nlvr2"], 100, scores=SCORES)
    return stream_schedule.make(setting, saved)


def hear(made, step, **scores):
    made.evaluated(step, {SCORES[name]: value for name, value in scores.items()})


def test_a_stopped_task_learns_in_every_fourth_round():
    made = schedule()
    for step in (5, 10, 15):
        hear(made, step, vqa=0.5, nlvr2=0.1 * step)
    assert made.stopped(15) == {"vqa"}
    taken = [made.streams(step) for step in range(15, 21)]
    both, other = ("vqa", "nlvr2"), ("nlvr2",)
    assert taken == [other, both, other, other, other, both]
    plan = stream_schedule.plan(made, 15, dict(vqa=15, nlvr2=15))
    assert list(itertools.islice(plan, 4)) == [
        dict(nlvr2=15), dict(vqa=15), dict(nlvr2=16), dict(nlvr2=17),
    ]  # fmt: skip
    hear(made, 20, vqa=0.5)  # the cooldown
    hear(made, 25, vqa=0.4)
    assert not made.stopped(25)
    assert made.streams(25) == both


def test_all_may_be_stopped_between_gaps():
    made = schedule()
    for step in (1, 2, 3):
        hear(made, step, vqa=0.5, nlvr2=0.5)
    assert [len(made.streams(step)) for step in range(3, 9)] == [0, 2, 0, 0, 0, 2]
    plan = stream_schedule.plan(made, 3, dict(vqa=3, nlvr2=3))
    assert list(itertools.islice(plan, 3)) == [dict(vqa=3), dict(nlvr2=3), dict(vqa=4)]


def test_an_untrained_model_and_a_missing_score_are_not_heard():
    made = schedule()
    hear(made, 0, vqa=0.9)
    assert made.state()["vqa"]["best"] is None
    made.evaluated(1, {SCORES["vqa"]: None})
    assert made.state()["vqa"] == dict(best=None, failures=0, waits=0, stopped=False, at=0)


def test_a_reset_begins_anew_at_its_step():
    made = schedule(resets=(10,))
    for step in (1, 2, 3):
        hear(made, step, vqa=0.5, nlvr2=0.5)
    assert [made.stopped(step) for step in (3, 9, 10)] == [{"vqa", "nlvr2"}] * 2 + [set()]
    hear(made, 12, vqa=0.3)
    assert made.state()["vqa"]["best"] == 0.3
    assert made.state()["nlvr2"]["best"] == 0.5
    assert not made.stopped(12)


def test_the_state_is_json_and_goes_on_in_the_middle_of_a_stop():
    scores = [0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6]
    whole = schedule()
    for step, score in enumerate(scores, 1):
        hear(whole, step, vqa=score, nlvr2=0.1 * step)
    for cut in range(1, len(scores)):
        made = schedule()
        for step, score in enumerate(scores, 1):
            if step == cut:
                made = schedule(json.loads(json.dumps(made.state())))
            hear(made, step, vqa=score, nlvr2=0.1 * step)
        assert made.state() == whole.state()


def test_a_controller_without_its_metric_is_refused():
    block = common.stream_schedule_block() | dict(kind="stop_and_go")
    scores = {"vqa": SCORES["vqa"], "nlvr2": ""}
    setting = stream_schedule.Setting(block, ["vqa", "nlvr2"], 100, scores=scores)
    with pytest.raises(ConfigError, match=r"(?s)needs the score.*streams\.nlvr2\.score"):
        stream_schedule.make(setting)
