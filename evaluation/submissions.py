"""Predictions in the official formats of the data sets, ready for their servers and scripts.

--mode=predict writes them by itself. VCR's leaderboard wants one file of two runs, and so does the
accuracy of answers with their rationales (Q→AR):

  python -m evaluation.submissions vcr --answers=A/predictions/test.jsonl \\
      --rationales=R/predictions/test.jsonl --out=leaderboard.csv
  python -m evaluation.submissions vcr-joint --answers=A/predictions/val.jsonl \\
      --rationales=R/predictions/val.jsonl
"""

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from core import remote
from core.console import command, say
from core.errors import DataError
from core.progress import atomic_file

CHOICES = 4
ANSWERS = [f"answer_{i}" for i in range(CHOICES)]
RATIONALES = [f"rationale_conditioned_on_a{i}_{j}" for i in range(CHOICES) for j in range(CHOICES)]
CONDITION = re.compile(r"(.+)/a([0-3])")  # "<annot_id>/a2": rationales given answer 2


@contextlib.contextmanager
def text_file(path: str | os.PathLike) -> Iterator:
    """A text file to write, which is there whole at the end, or not at all after an error."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def read(path: str | os.PathLike) -> Iterator[dict]:
    """The lines of a file of predictions.

    Raises:
      DataError: no such file, or a line that is no prediction.
    """
    path = remote.path(path)
    if not path.is_file():
        raise DataError(
            f"no file of predictions: {path}\n  fix: python main.py --mode=predict writes "
            "WORKDIR/predictions/<split>.jsonl"
        )
    with remote.local(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                row["id"]
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(
                    f"{path}:{number} is no prediction: expected an object with an id, found "
                    f"{line[:60]!r}"
                ) from error
            yield row


def _json_list(items: Iterable[Mapping]) -> Iterator[str]:
    separator = "[\n"
    for item in items:
        yield separator + json.dumps(item, ensure_ascii=False)
        separator = ",\n"
    yield "\n]\n" if separator != "[\n" else "[]\n"


def _chosen(rows: Iterable[dict]) -> Iterator[dict]:
    """The same rows; raises DataError where one is no prediction of a choice."""
    for row in rows:
        if "choice" not in row:
            raise DataError(
                f"prediction {row['id']!r} is of another task: expected a choice and its "
                f"probabilities, found {sorted(row)}\n  fix: name predictions of configs/vcr.py"
            )
        yield row


def _csv(*cells) -> str:
    return ",".join(map(str, cells)) + "\n"


def vqa(rows, records=None, kind="") -> Iterator[str]:
    """EvalAI's list for VQA v2."""
    return _json_list({"question_id": int(row["id"]), "answer": row["answer"]} for row in rows)


def gqa(rows, records=None, kind="") -> Iterator[str]:
    """GQA's list, which its evaluation script reads, too."""
    return _json_list({"questionId": row["id"], "prediction": row["answer"]} for row in rows)


def refcoco(rows, records, kind="") -> Iterator[str]:
    """A box an expression, by the id of the referred object, as VL-BERT writes it.

    Nothing for files of sentences with their boxes, which leave these ids out.
    """
    ref_ids = {record.text_id: record.ref_id for record in records()}
    if min(ref_ids.values(), default=-1) < 0:
        return iter(())
    return _json_list({"ref_id": ref_ids[row["id"]], "box": row["box"]} for row in rows)


def vcr(rows, records=None, kind="") -> Iterator[str]:
    """One of the two halves of VCR's file; nothing for rationales of the right answers alone."""
    if kind == "rationales":
        return _rationales(rows)
    return _answers(rows)


def _answers(rows) -> Iterator[str]:
    yield _csv("annot_id", *ANSWERS)
    for row in rows:
        yield _csv(row["id"], *row["probabilities"])


def _rationales(rows) -> Iterator[str]:
    found = _by_question(row for row in rows if CONDITION.fullmatch(row["id"]))
    if found:
        yield _csv("annot_id", *RATIONALES)
    for name, probabilities in found.items():
        yield _csv(name, *probabilities)


def nlvr2(rows, records=None, kind="") -> Iterator[str]:
    """identifier,True or False: what NLVR2's script reads, which knows no header."""
    for row in rows:
        yield _csv(row["id"], row["name"])


def snli_ve(rows, records=None, kind="") -> Iterator[str]:
    """pairID,label; SNLI-VE itself has no format."""
    yield _csv("pairID", "label")
    for row in rows:
        yield _csv(row["id"], row["name"])


# {data set: (suffix, format)}; a format makes the text of a file from predictions, records and
# their kind. Data sets that are not here have no server.
FORMATS: Mapping[str, tuple[str, Callable[..., Iterator[str]]]] = {
    "vqa": ("json", vqa),
    "visual_genome_qa": ("json", vqa),
    "gqa": ("json", gqa),
    "refcoco": ("json", refcoco),
    "vcr": ("csv", vcr),
    "nlvr2": ("csv", nlvr2),
    "snli_ve": ("csv", snli_ve),
}


def write(
    dataset: str, predictions: remote.Path, folder: remote.Path, *, records, kind: str
) -> list:
    """Writes what a data set's server takes.

    Args:
      dataset: `config.data.dataset`.
      predictions: file of predictions, named after its split.
      folder: for the new file.
      records: records() -> the records of the split.
      kind: of the records, where a data set has several.

    Returns:
      The paths written: one, or none where the data set has no format for these predictions.
    """
    if dataset not in FORMATS:
        return []
    suffix, made = FORMATS[dataset]
    lines = made(read(predictions), records, kind)
    first = next(lines, None)
    if first is None:
        return []
    path = folder / f"{dataset}-{predictions.stem}.{suffix}"
    with text_file(path) as file:
        file.write(first)
        file.writelines(lines)
    return [path]


def _by_question(rows) -> dict[str, list[float]]:
    """{annot_id: sixteen probabilities of rationales}, from a row an answer.

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
                "whose labels are unknown, with --config.data.task=rationales"
            )
        found.setdefault(given[1], {})[int(given[2])] = row["probabilities"]
    for name, by_answer in found.items():
        if sorted(by_answer) != list(range(CHOICES)):
            raise DataError(
                f"question {name!r} needs rationales for {CHOICES} answers, found those for "
                f"{sorted(by_answer)}"
            )
    return {name: [p for i in range(CHOICES) for p in by[i]] for name, by in found.items()}


def _require_same(answers, rationales) -> None:
    """Raises DataError where two runs did not predict the same questions."""
    only = [sorted(set(answers) - set(rationales)), sorted(set(rationales) - set(answers))]
    if any(only) or not answers:
        raise DataError(
            "answers and rationales are not of the same questions:\n  "
            f"{len(only[0])} with answers alone {only[0][:5]}, {len(only[1])} with rationales "
            f"alone {only[1][:5]}, {len(answers)} with answers\n  fix: predict the same split twice"
        )


def leaderboard(answers: Iterable[dict], rationales: Iterable[dict]) -> Iterator[str]:
    """VCR's file: a question a line, probabilities of its answers and of 16 rationales.

    Raises:
      DataError: predictions of other questions, or of too few rationales.
    """
    first = {row["id"]: row["probabilities"] for row in answers}
    second = _by_question(rationales)
    _require_same(first, second)
    yield _csv("annot_id", *ANSWERS, *RATIONALES)
    for name, probabilities in first.items():
        yield _csv(name, *probabilities, *second[name])


def joint_accuracy(answers: Iterable[dict], rationales: Iterable[dict]) -> dict[str, float]:
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


@command
def main(argv: Sequence[str]) -> None:
    """The commands of this module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("vcr", "the leaderboard's file"), ("vcr-joint", "accuracy of two runs")):
        one = commands.add_parser(name, help=text)
        one.add_argument("--answers", required=True, help="predictions with task=answers")
        one.add_argument("--rationales", required=True, help="those with task=rationales")
    commands.choices["vcr"].add_argument("--out", required=True, help="file to write")
    args = parser.parse_args(argv)
    answers, rationales = _chosen(read(args.answers)), _chosen(read(args.rationales))
    if args.command == "vcr":
        with text_file(args.out) as file:
            file.writelines(leaderboard(answers, rationales))
        say(args.out)
        return
    found = joint_accuracy(answers, rationales)
    say("\n".join(f"{name:<5}{100 * value:6.2f} %" for name, value in found.items()))


if __name__ == "__main__":
    sys.exit(main())
