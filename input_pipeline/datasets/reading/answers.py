"""Answers to open questions: accuracy and soft scores; vocabularies of answers.

Accuracy and soft score are one idea (Antol et al. 2015, section 5; the released evaluation): an
answer is right as far as three other people gave it. Leave each annotator out in turn, take
min(1, annotators among the rest who gave it / 3), and average.
"""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import xxhash

from core.errors import DataError
from core.progress import atomic_file
from input_pipeline.datasets.options.shared import ANSWER_FORMS
from input_pipeline.datasets.reading import answer_files
from input_pipeline.datasets.reading.answer_text import clean, normalize, without_punctuation

UNKNOWN = "<unk>"  # entry of VL-BERT's list for every answer outside it; never a target
FORMS = ANSWER_FORMS  # which string of an annotator is counted, see `soft_scores`
ANNOTATORS = 10  # of a question in VQA v2


class AnsweredQuestion(Protocol):
    """What is read of a `records.Question`, which itself reads answers by the rules here."""

    answers: Sequence[Any]  # records.Answer, the main one first


class ScoredQuestion(Protocol):
    """What an evaluation needs of a question: a `records.Question`, or less."""

    text_id: str
    question_type: str
    answer_type: str

    def accuracy(self, prediction: str, /) -> float: ...


def accuracy(prediction: str, answers: Sequence[str], *, official: bool | None = None) -> float:
    """The accuracy of an answer, 0 to 1: how far others gave it, by the rule of the module.

    Args:
      prediction: the answer.
      answers: as given, each as often as it was given. A single one is right or wrong.
      official: True: as VQA v2's evaluation, which normalises both sides unless all its annotators
        agree to the letter. False: both sides are normalised, always. None: the official rule
        where there are ten answers.

    Raises:
      DataError: there are no answers.
    """
    if not answers:
        raise DataError(
            "an accuracy needs annotators' answers",
            where=f"prediction {prediction!r}",
            expected="one answer or more",
            found="none",
            fix="evaluate a split with annotations",
        )
    return scored(answers, len(answers) == ANNOTATORS if official is None else official).accuracy(
        prediction
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Scored:
    """The accuracy of any answer to a question.

    Attributes:
      compared: compared(answer) -> the text by which it is told from others.
      texts, scores: of those that are right at all.
    """

    compared: Callable[[str], str]
    texts: tuple[str, ...]
    scores: tuple[float, ...]

    def accuracy(self, prediction: str) -> float:
        """The accuracy of an answer, 0 to 1."""
        text = self.compared(clean(prediction))
        for right, score in zip(self.texts, self.scores, strict=True):
            if right == text:
                return score
        return 0.0


def scored(answers: Sequence[str], official: bool) -> Scored:
    """What `accuracy` compares answers with; arguments as there, not empty."""
    answers, compared = [clean(answer) for answer in answers], _as_it_is
    if official and len(set(answers)) > 1:
        compared = normalize
    elif not official:
        compared = _compared
    answers = [sys.intern(compared(answer)) for answer in answers]
    texts = tuple(dict.fromkeys(answers))
    shares = (_share(tuple([answer == text for answer in answers])) for text in texts)
    return Scored(compared, texts, tuple(shares))


def _as_it_is(answer: str) -> str:
    return answer


@functools.lru_cache(maxsize=2**12)
def _share(right: tuple[bool, ...]) -> float:
    """The accuracy of an answer that some of the annotators gave."""
    if len(right) == 1:
        return 1.0
    return sum(min(1.0, (sum(right) - own) / 3) for own in right) / len(right)


def _compared(answer: str) -> str:
    """An answer normalised; where that leaves nothing ("A", "?"), in lower case."""
    return normalize(answer) or answer.lower()


def evaluate(predictions: Mapping[str, str], questions: Iterable[ScoredQuestion]) -> dict:
    """What the official evaluation reports, in percent with two decimals.

    Args:
      predictions: {question id: answer}.
      questions: with answers, each with one prediction.

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
        score = question.accuracy(predictions[question.text_id])
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
    counts = collections.Counter(_of_form(answer, form) for answer in answers)
    return {answer: soft_score(count, len(answers)) for answer, count in counts.items()}


def _of_form(answer: str, form: str) -> str:
    """What is counted of an answer; raises DataError for an unknown form."""
    if form not in FORMS:
        raise DataError(
            "unknown form of answers", where="answers", expected=f"one of {FORMS}", found=repr(form)
        )
    return answer if form == "verbatim" else normalize(answer)


class AnswerVocabulary:
    """The answers a classifier chooses from; label i is `labels[i]`.

    Published lists of the same answers differ in order, and a checkpoint's classifier belongs to
    one order: a loaded list keeps its own, and `fingerprint` tells orders apart.

    Attributes:
      labels: the answers.
      fingerprint: hex digest of the answers in order.
      alike: (answer, the one before it that is the same once both are normalised), of each.
    """

    def __init__(
        self, labels: Sequence[str], where: str = "answer vocabulary", *, repeats: bool = False
    ):
        """Checks the labels.

        Args:
          labels: the answers.
          where: they come from, for messages.
          repeats: whether an answer may occur twice; its first label is its own.

        Raises:
          DataError: no labels, one that is no string, one that occurs twice.
        """
        answer_files.require_sound(labels, where, repeats=repeats)
        self.labels, self.alike = tuple(labels), []
        self._written: dict[str, int] = {}
        self._normal: dict[str, int] = {}
        for label, answer in enumerate(self.labels):
            normal = normalize(answer)
            if answer == UNKNOWN or not normal:
                continue  # never a target
            self._written.setdefault(clean(answer).lower(), label)
            first = self._normal.setdefault(normal, label)
            if first != label:
                self.alike.append((answer, self.labels[first]))
        self.fingerprint = xxhash.xxh3_128_hexdigest(json.dumps(self.labels).encode())

    def __len__(self) -> int:
        return len(self.labels)

    def lookup(self, answer: str, form: str = "normalized") -> int:
        """Label of an answer, -1 where it is none.

        The label that is written like it, but for blanks around it and capitals; else the first one
        that is the same by `form`. "<unk>", and an answer that normalises to nothing ("a", "?"),
        is no label.

        Args:
          answer: as given.
          form: one of FORMS: both sides "normalized", or the list alone ("verbatim").
        """
        written, normal = clean(answer).lower(), normalize(answer)
        if written == UNKNOWN or not normal:
            return -1
        found = self._written.get(written, -1)
        return found if found >= 0 else self._normal.get(_of_form(written, form), -1)

    @classmethod
    def build(
        cls,
        questions: Iterable[AnsweredQuestion],
        min_count: int = 9,
        *,
        as_written: bool = False,
    ) -> "AnswerVocabulary":
        """From training questions: main answers, most frequent first.

        The rule that gives 3,129 answers on train2014+val2014: keep what is the main answer (the
        first of `Question.answers`) of at least nine questions, once normalised. Ties are in
        alphabetical order.

        Args:
          questions: of training.
          min_count: questions that an answer must be the main one of.
          as_written: call an answer what most of its questions do ("t-shirt"), as a data set wants
            it whose evaluation compares to the letter; else it is normalised ("t shirt").

        Raises:
          DataError: no answer is that frequent.
        """
        writings: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for question in questions:
            if question.answers:
                text = clean(question.answers[0].text)
                writings[normalize(text)][text] += 1
        counts = {answer: found.total() for answer, found in writings.items() if answer}
        kept = [answer for answer, count in counts.items() if count >= min_count]
        if not kept:
            frequent = sorted(counts.items(), key=lambda pair: -pair[1])[:3]
            raise DataError(
                "no answer is frequent enough for a vocabulary",
                where="training questions",
                expected=f"answers of at least {min_count} questions",
                found=f"{len(counts)} answers, the most frequent {frequent}",
                fix="more questions, or a smaller count: --config.data.answer_count=1",
            )
        kept.sort(key=lambda answer: (-counts[answer], answer))
        if as_written:
            return cls([writings[answer].most_common(1)[0][0] for answer in kept])
        return cls(kept)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "AnswerVocabulary":
        """Reads a list in any of its published forms.

        Args:
          path: .txt with an answer a line (VL-BERT's, with "<unk>"), which is read as VL-BERT does:
            in lower case, without punctuation, blank lines left out; .json or .pkl with a list
            (label2ans) or an object {answer: label} (ans2label), whose answers stay as they are.

        Raises:
          DataError: not readable, another form, an answer twice, labels that are not 0, 1, ...
        """
        where, found = str(path), answer_files.read_list(path)
        if pathlib.Path(path).suffix != ".txt":
            return cls(found, where)
        answer_files.require_sound(found, where)
        lines = (line.lower().strip() for line in found)
        read = [line if line == UNKNOWN else without_punctuation(line) for line in lines]
        # Lines that are one answer now keep a label each, as a checkpoint's classifier has them.
        return cls(read, where, repeats=True)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a JSON list, the one form that keeps every answer as it is."""
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(self.labels, indent=0) + "\n", encoding="utf-8")
