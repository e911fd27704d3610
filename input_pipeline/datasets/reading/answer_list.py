"""The answer list a config names, or one made of the training questions."""

import json
from collections.abc import Callable, Iterable

import xxhash

from core import remote
from core.console import say
from input_pipeline.datasets.reading.answers import AnswerVocabulary
from input_pipeline.datasets.records import Question


def named_or_built(
    data_config, questions: Callable[[], Iterable[Question]], fingerprint: Callable[[], str]
) -> AnswerVocabulary:
    """The answers a classifier chooses from.

    Args:
      data_config: the `data` block; `answers`, `answer_count` and `dir` are read.
      questions: of training, where no list is named.
      fingerprint: of `questions()`; a list that was made of the same ones is taken.

    Raises:
      DataError: an unreadable list, or no answer that is frequent enough.
    """
    if data_config.answers:
        return AnswerVocabulary.load(data_config.answers)
    count = data_config.answer_count
    digest = xxhash.xxh3_64_hexdigest(json.dumps([fingerprint(), count]).encode())
    path = remote.path(data_config.dir) / f"answers-{digest}.json"
    if path.is_file():
        return AnswerVocabulary.load(path)
    made = AnswerVocabulary.build(questions(), min_count=count)
    made.save(path)
    say(f"data: {len(made):,} answers of at least {count} training questions: {path}")
    return made
