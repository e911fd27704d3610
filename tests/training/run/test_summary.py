"""The final figures of a run."""

from training.run import summary

LINES = [
    {"step": 0, "time": 0, "evals/validation/words": 5.0, "evals/validation/mlm_accuracy": 0.0,
     "evals/validation/filled": 0.5, "evals/a_gain/mlm_accuracy": 0.1},
    {"step": 5, "time": 1, "train/loss": 4.0, "train/examples_per_second": 1.0},
    {"step": 10, "time": 2, "train/loss": 3.0, "train/examples_per_second": 8.0},
    {"step": 15, "time": 3, "train/loss": 2.0, "train/examples_per_second": 9.0},
    {"step": 15, "time": 3, "evals/validation/words": 2.0, "evals/validation/mlm_accuracy": 0.4,
     "evals/validation/filled": 0.5, "evals/a_gain/mlm_accuracy": 0.7},
]  # fmt: skip


def test_figures_of_the_last_and_first_evaluation():
    priors = {"all": {"prior": 0.2, "text_only": 0.21}}
    found = summary.collect(LINES, ["words"], priors)
    assert found["losses"] == {"words": 2.0}
    assert found["mlm_accuracy"] == 0.7  # not that of the evaluator with the losses
    assert found["before"] == {"losses": {"words": 5.0}, "mlm_accuracy": 0.1}
    assert found["examples_per_second"] == 9.0  # the first line holds the compilation
    assert found["train"] == {"step": 15, "loss": 2.0, "examples_per_second": 9.0}
    assert found["priors"] == priors
    assert "right in 20.0 %, a text-only classifier in 21.0 %" in summary.table(found)


def test_table_shows_before_and_after():
    lines = summary.table(summary.collect(LINES, ["words"], {})).splitlines()
    assert lines[0].split() == ["before", "after"]
    assert lines[1].split() == ["loss", "words", "5", "2"]
    assert lines[2].split() == ["mlm_accuracy", "0.1", "0.7"]
    assert len(lines) == 3


def test_a_run_without_evaluations_has_no_table():
    found = summary.collect(LINES[1:4], ["words"], {})
    assert set(found) == {"examples_per_second", "train"}
    assert summary.table(found) == "no evaluation"
