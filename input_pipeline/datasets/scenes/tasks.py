"""The tasks that are made from scene graphs, and the words their texts use."""

from collections.abc import Iterable, Iterator
from typing import Any

from input_pipeline.datasets.scenes import (
    entailment,
    expressions,
    graph,
    multiple_choice,
    pairs,
    pointing,
    questions,
)

# Of one scene each; "answers" and "rationales" are two readings of the same records.
_OF_A_SCENE = {
    "questions": questions.questions,
    "expressions": expressions.expressions,
    "pointing": pointing.pointing,
    "entailment": entailment.entailment,
    "answers": multiple_choice.multiple_choice,
    "rationales": multiple_choice.multiple_choice,
}
# Of the records that have a class.
LABELS = {"statements": pairs.LABELS, "entailment": entailment.LABELS}
VERSION = 2  # of the records made from a scene graph


def records(task: str, scenes: Iterable[graph.Scene], seed: int) -> Iterator[Any]:
    """The records of a task (see `datasets.records`) on the scenes of a split, in order.

    Statements are about a scene and the one before it.
    """
    before = None
    for scene in scenes:
        if task != "statements":
            yield from _OF_A_SCENE[task](scene, seed)
        elif before is not None:
            yield from pairs.statements(before, scene, seed)
        before = scene


def words_of(scene: graph.Scene, seed: int) -> Iterator[str]:
    """Texts and answers of the tasks on a scene, for a vocabulary that knows their words."""
    for question in questions.questions(scene, seed):
        yield question.text
        yield from question.raw_answers
    for expression in expressions.expressions(scene, seed):
        yield expression.text
    for record in multiple_choice.multiple_choice(scene, seed):
        for text in (record.question, *record.answers, *record.rationales):
            yield " ".join(token.word for token in text)
    for statement in pairs.statements(scene, scene, seed):
        yield statement.text
