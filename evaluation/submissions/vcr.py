"""VCR's files: answers, rationales given each answer, and both of two runs together."""

import re
from collections.abc import Collection, Iterable, Iterator

from core.errors import DataError
from evaluation.prediction_file import Prediction
from evaluation.submissions.csv_lines import csv_line

CHOICES = 4
ANSWERS = [f"answer_{i}" for i in range(CHOICES)]
RATIONALES = [f"rationale_conditioned_on_a{i}_{j}" for i in range(CHOICES) for j in range(CHOICES)]
CONDITION = re.compile(r"(.+)/a([0-3])")  # "<annot_id>/a2": rationales given answer 2


def chosen(rows: Iterable[Prediction]) -> Iterator[Prediction]:
    """The same rows; raises DataError where one is no prediction of a choice."""
    for row in rows:
        if "choice" not in row:
            raise DataError(
                f"prediction {row['id']!r} is of another task: expected a choice and its "
                f"probabilities, found {sorted(row)}\n  fix: name predictions of configs/vcr.py"
            )
        yield row


def answers_file(rows: Iterable[Prediction]) -> Iterator[str]:
    """One line per question: probabilities of its answers."""
    yield csv_line("annot_id", *ANSWERS)
    for row in rows:
        yield csv_line(row["id"], *row["probabilities"])


def rationales_file(rows: Iterable[Prediction]) -> Iterator[str]:
    """One line per question: 16 probabilities; nothing for rationales of right answers alone."""
    found = _by_question(row for row in rows if CONDITION.fullmatch(row["id"]))
    if found:
        yield csv_line("annot_id", *RATIONALES)
    for name, probabilities in found.items():
        yield csv_line(name, *probabilities)


def _by_question(rows: Iterable[Prediction]) -> dict[str, list[float]]:
    """{annot_id: sixteen probabilities of rationales}, from one row per answer.

    Raises:
      DataError: a question without the rows of all four answers.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        given = CONDITION.fullmatch(row["id"])
        if not given:
            raise DataError(
                f"prediction {row['id']!r} is of the right answer's rationales alone, but the "
                "leaderboard wants those of all four answers\n  fix: predict the split test, "
                "whose labels are unknown, with --config.data.records=rationales"
            )
        found.setdefault(given[1], {})[int(given[2])] = row["probabilities"]
    for name, by_answer in found.items():
        if sorted(by_answer) != list(range(CHOICES)):
            raise DataError(
                f"question {name!r} needs rationales for {CHOICES} answers, found those for "
                f"{sorted(by_answer)}"
            )
    return {name: [p for i in range(CHOICES) for p in by[i]] for name, by in found.items()}


def _require_same(answers: Collection[str], rationales: Collection[str]) -> None:
    """Raises DataError where two runs did not predict the same questions."""
    only = [sorted(set(answers) - set(rationales)), sorted(set(rationales) - set(answers))]
    if any(only) or not answers:
        raise DataError(
            "answers and rationales are not of the same questions:\n  "
            f"{len(only[0])} with answers alone {only[0][:5]}, {len(only[1])} with rationales "
            f"alone {only[1][:5]}, {len(answers)} with answers\n  fix: predict the same split twice"
        )


def leaderboard(answers: Iterable[Prediction], rationales: Iterable[Prediction]) -> Iterator[str]:
    """The leaderboard's file: one line per question, its answers' and 16 rationales' probabilities.

    Raises:
      DataError: predictions of other questions, or of too few rationales.
    """
    first = {row["id"]: row["probabilities"] for row in answers}
    second = _by_question(rationales)
    _require_same(first, second)
    yield csv_line("annot_id", *ANSWERS, *RATIONALES)
    for name, probabilities in first.items():
        yield csv_line(name, *probabilities, *second[name])


def joint_accuracy(
    answers: Iterable[Prediction], rationales: Iterable[Prediction]
) -> dict[str, float]:
    """{"Q→A", "QA→R", "Q→AR"}, 0 to 1; the last: both right, the rationale given the right answer.

    Raises:
      DataError: predictions of other questions, or without labels.
    """
    right: list[dict[str, bool]] = []
    for rows in (answers, rationales):
        right.append({})
        for row in rows:
            if "label" not in row:
                raise DataError(
                    f"prediction {row['id']!r} has no label, so it is neither right nor wrong\n"
                    "  fix: predict a split with labels (--config.data.eval_split=val)"
                )
            right[-1][row["id"]] = row["choice"] == row["label"]
    _require_same(*right)
    both = [found and right[1][name] for name, found in right[0].items()]
    shares = [sum(values) / len(both) for values in (right[0].values(), right[1].values(), both)]
    return dict(zip(("Q→A", "QA→R", "Q→AR"), shares, strict=True))
