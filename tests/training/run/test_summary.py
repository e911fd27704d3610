"""The final figures of a run."""

from core.headings import Heading
from training.run import summary

LINES = [
    {"step": 0, "time": 0, "evals/validation/words": 5.0, "evals/validation/mlm_accuracy": 0.0,
     "evals/validation/filled": 0.5, "evals/a_gain/gain": 1.0},
    {"step": 5, "time": 1, "train/loss": 4.0, "train/examples_per_second": 1.0},
    {"step": 10, "time": 2, "train/loss": 3.0, "train/examples_per_second": 8.0},
    {"step": 15, "time": 3, "train/loss": 2.0, "train/examples_per_second": 9.0},
    {"step": 15, "time": 3, "evals/validation/words": 2.0, "evals/validation/mlm_accuracy": 0.4,
     "evals/validation/filled": 0.5, "evals/a_gain/gain": 7.0,
     "evals/validation/mlm_accuracy_prior": 0.25},
]  # fmt: skip


def test_figures_of_the_last_and_first_evaluation():
    priors = {"all": {"prior": 0.2, "text_only": 0.21}}
    found = summary.collect(LINES, ["words"], priors)
    assert found["losses"] == {"words": 2.0}
    assert (found["mlm_accuracy"], found["gain"]) == (0.4, 7.0)
    assert found["before"] == {"losses": {"words": 5.0}, "mlm_accuracy": 0.0, "gain": 1.0}
    assert found["examples_per_second"] == 9.0  # the first line holds the compilation
    assert found["train"] == {"step": 15, "loss": 2.0, "examples_per_second": 9.0}
    assert found["priors"] == priors
    assert "right in 20.0 %, a text-only classifier in 21.0 %" in summary.table(found)


def test_a_name_has_one_meaning():
    """What two evaluations measure goes by both names, losses too."""
    more = {"evals/test/mlm_accuracy": 0.3, "evals/test/words": 3.0}
    found = summary.collect([line | more for line in LINES], ["words"], {})
    assert "mlm_accuracy" not in found
    assert (found["validation/mlm_accuracy"], found["test/mlm_accuracy"]) == (0.4, 0.3)
    assert found["losses"] == {"validation/words": 2.0, "test/words": 3.0}
    assert found["gain"] == 7.0


def test_table_shows_before_and_after_beside_what_guessing_reaches():
    found = summary.collect(LINES, ["words"], {})
    found["splits"] = {"validation": dict(split="test", examples=1200)}
    known = {"evals/a_gain/gain": Heading("the gain", "points")}
    lines = summary.table(found, known).splitlines()
    assert lines[0].split() == ["before", "after", "prior"]
    assert lines[1].split() == ["loss", "words", "5", "2"]
    assert lines[2].split("  ")[-1].strip() == "25.0 %"
    assert lines[2].split() == ["mlm_accuracy", "0.0", "%", "40.0", "%", "25.0", "%"]
    assert lines[3].split() == ["gain", "1.0", "points", "7.0", "points"]
    assert lines[4] == "validation: split 'test', 1,200 examples"
    assert lines[5].startswith("prior: ")
    assert len(lines) == 6


def test_cells_of_a_table_stand_in_one_with_their_intervals():
    cells = {"own": 0.5, "within": 0.75, "within_low": 0.7, "within_high": 0.81}
    line = {"step": 3, "evals/gain/gain": 4.0}
    line |= {f"evals/gain/by_kind/left_right/{name}": x for name, x in cells.items()}
    line["evals/gain/by_kind/size/own"] = 0.25
    known = {
        name: Heading("", "share") for name in line if name.startswith("evals/gain/by_kind")
    } | {"evals/gain/gain": Heading("the gain", "points")}
    text = summary.table(summary.collect([line], ["words"], {}), known)
    lines = text.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["before", "after"],
        ["gain", "4.0", "points"],
        [],
        ["by", "kind", "own", "within"],
    ]
    assert lines[4:] == ["left/right  50.0 %  75.0 % (70.0–81.0)", "size        25.0 %"]


def test_table_says_where_there_are_no_labels():
    line = {"step": 3, "evals/validation/words": None, "evals/validation/accuracy": None}
    text = summary.table(summary.collect([line], ["words"], {}))
    assert text.splitlines()[1].split("  ")[-1] == "no labels"
    assert "accuracy" in text.splitlines()[2]
    assert "no labels: no example of the split" in text.splitlines()[3]


def test_a_run_without_evaluations_has_no_table():
    found = summary.collect(LINES[1:4], ["words"], {})
    assert set(found) == {"examples_per_second", "train"}
    assert summary.table(found) == "no evaluation"
