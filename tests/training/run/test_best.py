"""The best value so far of a metric: kept, and only replaced by a greater one."""

import math

import pytest

from core.errors import ConfigError
from training.run.best import BestMetric

NAME = "evals/validation/accuracy"


def test_only_a_greater_finite_value_after_the_first_step_is_better():
    best = BestMetric(NAME, None)
    seen = [best.improved(step, {NAME: v}) for step, v in enumerate([9.0, 1.0, 1.0, 3.0, 2.0])]
    assert seen == [False, True, False, True, False]  # there is no checkpoint of step 0
    assert best.record == dict(step=3, metric=NAME, value=3.0)
    assert not best.improved(5, {NAME: math.nan})
    assert not best.improved(6, {NAME: math.inf})


def test_the_record_of_a_checkpoint_goes_on():
    best = BestMetric(NAME, dict(step=3, metric=NAME, value=3.0))
    assert not best.improved(4, {NAME: 2.0})
    assert best.improved(5, {NAME: 4.0})


def test_without_labels_nothing_is_the_best_and_it_is_said_once(capsys):
    best = BestMetric(NAME, None)
    assert not best.improved(1, {NAME: None})
    assert "no example of its split has a label" in "".join(capsys.readouterr())
    assert not best.improved(2, {NAME: None})
    assert not "".join(capsys.readouterr())


def test_no_metric_is_never_better_and_an_unknown_one_is_refused():
    assert not BestMetric("", None).improved(1, {NAME: 1.0})
    with pytest.raises(ConfigError, match=r"(?s)checkpoint\.best.*'evals/x/y'.*accuracy"):
        BestMetric("evals/x/y", None).improved(1, {NAME: 1.0})
