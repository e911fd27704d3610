"""Answers to open questions: the official VQA text rules, accuracy and soft scores; vocabularies.

Accuracy and soft score are one idea (Antol et al. 2015, section 5; the released evaluation): an
answer is right as far as three other people gave it. Leave each annotator out in turn, take
min(1, annotators among the rest who gave it / 3), and average.
"""

import collections
import functools
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import xxhash

from core import safe_pickle
from core.errors import DataError
from core.progress import atomic_file
from input_pipeline.datasets.reading import files

UNKNOWN = "<unk>"  # entry of VL-BERT's list for every answer outside it; never a target
FORMS = ("verbatim", "normalized")  # which string of an annotator is counted, see `soft_scores`

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {"none": "0"}
_ARTICLES = ("a", "an", "the")
# What the evaluation takes for a contraction without its apostrophe. Some that one would expect
# are missing (lets, shes, im, ive): the table's entries for them could never apply.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's
won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


class AnsweredQuestion(Protocol):
    """What is read of a `records.Question`, which itself reads answers by the rules here."""

    text_id: str
    answers: Sequence[Any]  # records.Answer, the main one first
    raw_answers: Sequence[str]
    question_type: str
    answer_type: str


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


# With several apostrophes ("couldn't've") the table knows the word without any one of them.
_APOSTROPHES = {
    bare: word for word in _CONTRACTIONS.split() for bare in _without_one_apostrophe(word)
}
_APOSTROPHES["somebody'd"] = "somebodyd"  # as the evaluation has it


def _clean(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


@functools.lru_cache(maxsize=2**16)  # the same answers come again and again
def normalize(answer: str) -> str:
    """An answer as the official evaluation compares it: "Two T-shirts." gives "2 t shirts".

    A punctuation mark goes where it stands beside a space somewhere in the answer, or where the
    answer has a comma between digits; elsewhere a space replaces it. Then: no period unless a
    digit follows, lower case, zero to ten and none as digits, no articles, apostrophes put back.
    """
    text, thousands = answer, re.search(r"\d,\d", answer)
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if beside_space or thousands else " ")
    # 32 at most: the released tools hand re.UNICODE, which is 32, to the argument `count`.
    text = re.sub(r"\.(?!\d)", "", text, count=32)
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in _ARTICLES)


def accuracy(prediction: str, answers: Sequence[str]) -> float:
    """The official accuracy of an answer, 0 to 1; with a single answer, exact match (GQA's).

    Args:
      prediction: the answer.
      answers: of the annotators, as given; ten in VQA v2. Both sides are normalised, but not
        where all annotators agree to the letter.

    Raises:
      DataError: there are no answers.
    """
    if not answers:
        raise DataError(
            "an accuracy needs annotators' answers",
            where=f"prediction {prediction!r}",
            expected="ten answers",
            found="none",
            fix="evaluate a split with annotations",
        )
    prediction, answers = _clean(prediction), [_clean(answer) for answer in answers]
    if len(set(answers)) > 1:
        prediction, answers = normalize(prediction), [normalize(answer) for answer in answers]
    right = [answer == prediction for answer in answers]
    if len(right) == 1:
        return float(right[0])
    return sum(min(1.0, (sum(right) - own) / 3) for own in right) / len(right)


def evaluate(predictions: Mapping[str, str], questions: Iterable[AnsweredQuestion]) -> dict:
    """What the official evaluation reports, in percent with two decimals.

    Args:
      predictions: {question id: answer}.
      questions: with `raw_answers`, each with one prediction.

    Returns:
      {"overall": float, "perQuestionType": {type: float}, "perAnswerType": {type: float},
      "per_question": {question id: float}}

    Raises:
      DataError: no questions, a question without answers, questions without a prediction, or
        predictions without a question.
    """
    scores: dict[str, float] = {}
    by_question, by_answer = collections.defaultdict(list), collections.defaultdict(list)
    missing = []
    for question in questions:
        if question.text_id not in predictions:
            missing.append(question.text_id)
            continue
        score = accuracy(predictions[question.text_id], question.raw_answers)
        scores[question.text_id] = score
        by_question[question.question_type].append(score)
        by_answer[question.answer_type].append(score)
    unknown = [name for name in predictions if name not in scores]
    if missing or unknown or not scores:
        raise DataError(
            "predictions and questions are not the same set",
            where="VQA evaluation",
            expected="one prediction for each question of the split, at least one",
            found=f"{len(missing)} questions without a prediction {missing[:5]}, "
            f"{len(unknown)} predictions without a question {unknown[:5]}",
            fix="predict the split that is evaluated, all of it",
        )

    def percent(values: Iterable[float]) -> float:
        values = list(values)
        return round(100 * sum(values) / len(values), 2)

    return {
        "overall": percent(scores.values()),
        "perQuestionType": {name: percent(values) for name, values in by_question.items()},
        "perAnswerType": {name: percent(values) for name, values in by_answer.items()},
        "per_question": {name: percent([score]) for name, score in scores.items()},
    }


def soft_score(count: int, annotators: int = 10) -> float:
    """Training target of an answer that `count` of the annotators gave, 0 to 1.

    Two rules are in use, and for ten annotators they are the same: VL-BERT averages
    min(1, others / 3) over the leave-one-out sets, as `accuracy` does (`count` of the sets lack
    one such answer, the rest hold all); the bottom-up-attention tool's table says 1: 0.3, 2: 0.6,
    3: 0.9, 4 and more: 1. A single annotator's answer is right.
    """
    if annotators == 1:
        return float(count)
    lacking, whole = min(3, count - 1), min(3, count)
    return (count * lacking + (annotators - count) * whole) / (3 * annotators)


def soft_scores(answers: Sequence[str], form: str) -> dict[str, float]:
    """{distinct answer: soft score}, in the order the answers come first.

    Args:
      answers: of the annotators.
      form: which strings are counted. "verbatim": as given, which VL-BERT and the
        bottom-up-attention tool look up in a vocabulary of normalised answers (an answer "Two"
        then counts for nothing). "normalized": as the evaluation compares them, so that "two"
        and "2" count together.

    Raises:
      DataError: unknown form.
    """
    if form not in FORMS:
        raise DataError(
            "unknown form of answers", where="answers", expected=f"one of {FORMS}", found=repr(form)
        )
    counts = collections.Counter(answers if form == "verbatim" else map(normalize, answers))
    return {answer: soft_score(count, len(answers)) for answer, count in counts.items()}


class AnswerVocabulary:
    """The answers a classifier chooses from; label i is `labels[i]`.

    Published lists of the same answers differ in order, and a checkpoint's classifier belongs to
    one order: a loaded list keeps its own, and `fingerprint` tells orders apart.

    Attributes:
      labels: the answers.
      fingerprint: hex digest of the answers in order.
    """

    def __init__(self, labels: Sequence[str], where: str = "answer vocabulary"):
        """Checks the labels.

        Raises:
          DataError: no labels, one that is no string, one that occurs twice.
        """
        self.labels, self._label_of = tuple(labels), {}
        for label, answer in enumerate(self.labels):
            files.check(answer, str, f"{where}, label {label}", "answer")
            first = self._label_of.setdefault(answer, label)
            if first != label:
                raise DataError(
                    "an answer has two labels",
                    where=where,
                    expected="each answer once",
                    found=f"{answer!r} at labels {first} and {label}",
                    fix="remove one; a checkpoint's classifier needs the list it was trained with",
                )
        if not self.labels:
            raise DataError(
                "an answer vocabulary is empty", where=where, expected="answers", found="none"
            )
        self.fingerprint = xxhash.xxh3_128_hexdigest(json.dumps(self.labels).encode())

    def __len__(self) -> int:
        return len(self.labels)

    def lookup(self, answer: str) -> int:
        """Label of an answer, -1 where it is none; "<unk>" is never a target and gives -1."""
        return -1 if answer == UNKNOWN else self._label_of.get(answer, -1)

    @classmethod
    def build(cls, questions: Iterable[AnsweredQuestion], min_count: int = 9) -> "AnswerVocabulary":
        """From training questions: main answers, normalised, most frequent first.

        The rule that gives 3,129 answers on train2014+val2014: keep what is the main answer (the
        first of `Question.answers`) of at least nine questions. Ties are in alphabetical order.

        Raises:
          DataError: no answer is that frequent.
        """
        counts = collections.Counter(
            normalize(question.answers[0].text) for question in questions if question.answers
        )
        kept = [answer for answer, count in counts.items() if count >= min_count]
        if not kept:
            raise DataError(
                "no answer is frequent enough for a vocabulary",
                where="training questions",
                expected=f"answers of at least {min_count} questions",
                found=f"{len(counts)} answers, the most frequent {counts.most_common(3)}",
                fix="more questions, or a smaller count",
            )
        return cls(sorted(kept, key=lambda answer: (-counts[answer], answer)))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "AnswerVocabulary":
        """Reads a list in any of its published forms.

        Args:
          path: .txt with an answer a line (VL-BERT's, with "<unk>"); .json or .pkl with a list
            (label2ans) or an object {answer: label} (ans2label).

        Raises:
          DataError: not readable, another form, an answer twice, labels that are not 0, 1, ...
        """
        where, suffix = str(path), pathlib.Path(path).suffix
        if suffix == ".txt":
            with files.opened(path) as file:
                lines = files.decode(file.read(), where).removesuffix("\n").split("\n")
            lines = [line.removesuffix("\r") for line in lines]
            for number, line in enumerate(lines, 1):
                files.need_text(line, f"{where}:{number}", "answer")
            return cls(lines, where)
        if suffix == ".json":
            found = files.read_json(path)
        elif suffix == ".pkl":
            with files.opened(path) as file:
                found = safe_pickle.loads(file.read(), where)
        else:
            raise DataError(
                "unknown form of an answer list",
                where=where,
                expected="a file .txt, .json or .pkl",
                found=repr(suffix),
                fix="rename or convert it",
            )
        if isinstance(found, dict):
            found = cls._in_order(found, where)
        return cls(files.check(found, list, where), where)

    @staticmethod
    def _in_order(label_of: dict, where: str) -> list[str]:
        """The answers of {answer: label} by label."""
        for answer, label in label_of.items():
            files.check(label, int, f"{where}, answer {answer!r}", "label")
        answers = {label: answer for answer, label in label_of.items()}
        holes = [label for label in range(len(label_of)) if label not in answers]
        if holes:
            raise DataError(
                "labels of an answer list are not 0, 1, 2, ...",
                where=where,
                expected=f"each label from 0 to {len(label_of) - 1} once",
                found=f"none of these: {holes[:10]}",
                fix="use the list as published",
            )
        return [answers[label] for label in range(len(label_of))]

    def save(self, path: str | os.PathLike) -> None:
        """Writes a JSON list, or with .txt an answer a line.

        Raises:
          DataError: another suffix; an answer that is no line of .txt.
        """
        suffix = pathlib.Path(path).suffix
        broken = [a for a in self.labels if not a.strip() or "\n" in a or a.endswith("\r")]
        if suffix not in (".json", ".txt") or (suffix == ".txt" and broken):
            raise DataError(
                "an answer list cannot be written so",
                where=str(path),
                expected="a file .json; .txt where every answer is a line that is not blank",
                found=f"{suffix!r}, answers that are none: {broken[:3]}",
                fix="write .json",
            )
        text = "\n".join(self.labels) if suffix == ".txt" else json.dumps(self.labels, indent=0)
        with atomic_file(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
