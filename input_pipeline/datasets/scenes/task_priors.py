"""What do the texts of the tasks tell of the answers? As probe.py asks it of captions.

  python -m input_pipeline.datasets.scenes.task_priors --images=4000 --validation=4000 --seed=0

Logistic regressions of words and word pairs learn from the texts of train and guess those of
validation. The prior is the most frequent answer among those that the question allows (of a
colour, of a count); for choices, chance. Questions of yes or no are also guessed all at once, as
are counts and statements, so that a form of words that goes with an answer shows.

Which box an expression means cannot be asked of the text as such; what it could tell is the
box's place in the list of candidates, and, of expressions that mention neither position nor size,
how far left the box is and how large.
"""

import argparse
import collections
import itertools
import sys
from collections.abc import Iterable, Sequence

from core import arguments
from core.console import command, say
from input_pipeline.datasets.records import MultipleChoice, Token
from input_pipeline.datasets.scenes import (
    captions,
    expressions,
    graph,
    multiple_choice,
    pairs,
    probe,
    questions,
)

# Words that only expressions of a position have.
_POSITION = {
    word
    for text in (*itertools.chain(*captions.RELATION_WORDINGS.values()), *captions.EXTREMES)
    for word in text.split()
} - {"the"}
_Texts = tuple[list[str], list]  # texts, and what is to be guessed
_Choices = list[tuple[str, list[str], int]]  # (what is given, choices, index of the right one)


def measure(
    train: Sequence[graph.Scene], validation: Sequence[graph.Scene], seed: int
) -> dict[str, dict[str, float]]:
    """Prior and text-only accuracy of every task.

    Args:
      train: scenes to learn from.
      validation: other scenes.
      seed: of the data set.

    Returns:
      {task: {"slots", "prior", "text_only", "gain", "error"}} as `probe.measure`.
    """
    seen, unseen = _texts(train, seed), _texts(validation, seed)
    table = {task: probe.row(seen[task], unseen[task]) for task in sorted(seen.keys() & unseen)}
    of_kinds = [row for task, row in table.items() if task.startswith("question: what ")]
    table["question: other, all"] = probe.total([*of_kinds, table["question: where is"]])
    seen, unseen = _choices(train, seed), _choices(validation, seed)
    for task in seen:
        table[task] = _choose(seen[task], unseen[task])
    for row in table.values():
        probe.add_error(row)
    return table


def _texts(scenes: Iterable[graph.Scene], seed: int) -> dict[str, _Texts]:
    """{task: (texts, labels)} of everything but multiple choice."""
    found: dict[str, _Texts] = collections.defaultdict(lambda: ([], []))

    def add(task, text, label):
        found[task][0].append(text)
        found[task][1].append(label)

    before = None
    for scene in scenes:
        for question in questions.questions(scene, seed):
            other = question.answer_type == "other"
            task = question.question_type if other else question.answer_type
            add(f"question: {task}", question.text, question.answers[0].text)
        for e in expressions.expressions(scene, seed):
            add("expression: candidate", e.text, e.candidates.index(e.box))
            spoken = set(e.text.split())
            if not spoken & _POSITION:
                lefts = sorted(box[0] for box in e.candidates)
                add("expression: place", e.text, lefts.index(e.box[0]))
                if not spoken & set(graph.SIZES):
                    # Radii are 8, 9 or 14, 15.
                    add("expression: size", e.text, e.box[3] - e.box[1] > 21)
        if before is not None:
            for statement in pairs.statements(before, scene, seed):
                add("statement", statement.text, statement.label)
        before = scene
    return found


def _spoken(tokens: Iterable[Token], record: MultipleChoice) -> str:
    """Tokens as words, "ball2" for a mention of object 2."""
    return " ".join(
        token.word or "&".join(f"{record.objects[i].name}{i}" for i in token.objects)
        for token in tokens
    )


def _choices(scenes: Iterable[graph.Scene], seed: int) -> dict[str, _Choices]:
    found: dict[str, _Choices] = {"choice: answer": [], "choice: rationale": []}
    for scene in scenes:
        for r in multiple_choice.multiple_choice(scene, seed):
            question = _spoken(r.question, r)
            answers, rationales = (
                [_spoken(text, r) for text in texts] for texts in (r.answers, r.rationales)
            )
            found["choice: answer"].append((question, answers, r.answer_label))
            given = f"{question} {answers[r.answer_label]}"
            found["choice: rationale"].append((given, rationales, r.rationale_label))
    return found


def _clues(given: str, choices: list[str]) -> list[str]:
    """A text for each choice: its words, each also with what is given and how many share it.

    The latter would show a right choice that the wrong ones were made from.
    """
    words = [set(choice.split()) for choice in choices]
    made = []
    for choice, own in zip(choices, words, strict=True):
        joint = [f"{a}&{b}" for a in sorted(set(given.split())) for b in sorted(own)]
        shared = [f"{word}#{sum(word in other for other in words)}" for word in sorted(own)]
        kinds = [mark.partition("#")[2] + "#" for mark in shared]
        made.append(" ".join([choice, *joint, *shared, *sorted(kinds)]))
    return made


def _choose(seen: _Choices, unseen: _Choices) -> dict[str, float]:
    """Learns which texts are of right choices; guesses the likeliest of each four."""
    texts, right = [], []
    for given, choices, label in seen:
        texts += _clues(given, choices)
        right += [n == label for n in range(len(choices))]
    features, model = probe.fit(texts, right)
    hits = 0
    for given, choices, label in unseen:
        hits += int(model.decision_function(features(_clues(given, choices))).argmax()) == label
    prior = sum(right) / len(right)
    return {"slots": len(unseen), "prior": prior, "text_only": hits / len(unseen)}


def sample(
    seed: int, split: str, images: int, min_objects: int = 2, max_objects: int = 4
) -> list[graph.Scene]:
    """The first scenes of a split."""
    return [graph.draw(seed, split, i, min_objects, max_objects) for i in range(images)]


@command
def main(argv: Sequence[str]) -> None:
    """Draws scenes, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=arguments.whole(1), default=4000)
    parser.add_argument("--validation", type=arguments.whole(1), default=4000)
    parser.add_argument("--seed", type=arguments.whole(0), default=0)
    parser.add_argument("--min-objects", type=arguments.whole(2), default=2)
    parser.add_argument("--max-objects", type=arguments.whole(2), default=4)
    args = parser.parse_args(argv)
    train, validation = (
        sample(args.seed, split, images, args.min_objects, args.max_objects)
        for split, images in (("train", args.images), ("validation", args.validation))
    )
    say(probe.format_table(measure(train, validation, args.seed)))


if __name__ == "__main__":
    sys.exit(main())
