"""The answer list a config names, or one made of the training questions; questions it answers."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import xxhash

from core import remote
from core.console import say, warn
from core.errors import DataError
from input_pipeline.datasets.reading.answers import AnswerVocabulary
from input_pipeline.datasets.records import Question
from input_pipeline.texts.tables import TextTable

_VERSION = 2  # of how a list is made of questions
_CHUNK = 2**20  # questions looked at together
_LOOKED_AT = 1000  # records among which examples are looked for
_FEW = 0.5  # share of questions with a listed answer below which something is probably wrong


def named_or_built(
    data_config,
    questions: Callable[[], Iterable[Question]],
    fingerprint: Callable[[], str],
    *,
    as_written: bool = False,
) -> AnswerVocabulary:
    """The answers a classifier chooses from.

    Args:
      data_config: the `data` block; `answers`, `answer_count` and `dir` are read.
      questions: of training, where no list is named.
      fingerprint: of `questions()`; a list that was made of the same ones is taken.
      as_written: see `AnswerVocabulary.build`.

    Raises:
      DataError: an unreadable list, or no answer that is frequent enough.
    """
    if data_config.answers:
        named = AnswerVocabulary.load(data_config.answers)
        if named.alike:
            one, other = named.alike[0]
            warn(
                f"data: {data_config.answers}: {len(named.alike)} answers are the same as one "
                f"before them once both are normalised, such as {one!r} and {other!r}; a "
                "question's goes to the one that is written like it, else to the first"
            )
        return named
    count = data_config.answer_count
    digest = xxhash.xxh3_64_hexdigest(json.dumps([_VERSION, fingerprint(), count]).encode())
    path = remote.path(data_config.dir) / f"answers-{digest}.json"
    if path.is_file():
        return AnswerVocabulary.load(path)
    made = AnswerVocabulary.build(questions(), min_count=count, as_written=as_written)
    made.save(path)
    say(f"data: {len(made):,} answers of at least {count} training questions: {path}")
    return made


@dataclasses.dataclass(frozen=True)
class Targets:
    """Tells how many questions of a split have an answer that is in the list.

    Attributes:
      answers: the list.
      records: records(split) -> its questions.
      train: name of the training split.
      form: what of an annotator's answer is looked up, one of `answers.FORMS`.
    """

    answers: AnswerVocabulary
    records: Callable[[str], Iterator[Question]]
    train: str
    form: str = "normalized"

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever the same answers would become other targets."""
        return f"{self.answers.fingerprint} {self.form} {Question.row_version}"

    def review(self, split: str, table: TextTable, rows: np.ndarray) -> None:
        """Tells of a split; a warning where less than half of its questions have one.

        Args:
          split: name of it.
          table: of its questions.
          rows: int [N], the rows that are used.

        Raises:
          DataError: none has, though there are answers; or the split is trained on without any.
        """
        if not len(rows):
            return
        asked, given, found = len(rows), 0, 0
        for start in range(0, asked, _CHUNK):
            values = table.values_of(rows[start : start + _CHUNK])
            # -1: the question comes without an answer
            given += int(np.count_nonzero(values["answer_ids"][:, 0] >= 0))
            found += int(np.count_nonzero((values["answer_scores"] > 0).any(1)))
        where = f"{table.origin}, split {split!r}"
        if not given and split == self.train:
            raise DataError(
                "the questions to train on have no answers",
                where=where,
                expected="answers of the annotators",
                found=f"none for any of {asked:,} questions",
                fix="train on a split with answers: --config.data.train_split",
            )
        if not given:
            say(
                f"data: split {split!r}: no answers to any of its {asked:,} questions; it can be "
                "predicted on, and there is nothing to evaluate"
            )
            return
        text = f"{found:,} of {given:,} questions ({100 * found / given:.0f} %)"
        listed = f"the list of {len(self.answers):,} answers"
        if not found:
            raise DataError(
                "no question has an answer that is in the answer list",
                where=where,
                expected=f"answers such as {list(self.answers.labels[:5])}",
                found=f"answers such as {self._unlisted(split)}",
                fix=self._fix(),
            )
        without = f"; {asked - given:,} others come without answers" * (asked > given)
        if found < _FEW * given:
            warn(
                f"data: split {split!r}: only {text} have an answer that is in {listed}{without}; "
                f"not in it, for example: {self._unlisted(split)}\n  fix: {self._fix()}"
            )
        else:
            say(f"data: split {split!r}: {text} have an answer that is in {listed}{without}")

    def _unlisted(self, split: str) -> list[str]:
        """A few answers that are not in the list."""
        found: dict[str, None] = {}
        for record in itertools.islice(self.records(split), _LOOKED_AT):
            for answer in record.answers[:1]:
                if self.answers.lookup(answer.text, self.form) < 0:
                    found[answer.text] = None
        return list(found)[:5]

    def _fix(self) -> str:
        lists = "name the list of these data (--config.data.answers=FILE), or leave it empty: one"
        text = f"{lists} is made of the training questions (--config.data.answer_count=1: of all)"
        if self.form == "verbatim":
            text += "; if only the writing differs: --config.data.answer_form=normalized"
        return text
