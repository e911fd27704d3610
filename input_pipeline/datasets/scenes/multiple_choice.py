"""Questions with four answers and four rationales that mention objects, in the manner of VCR.

Choices differ in one attribute of four values, or in two of two values each (all combinations).
So no choice resembles the others more than the next, every word is as often wrong as right, and
only the picture tells which choice is true. Objects are named by their shape, which is therefore
neither asked nor answered.

A rationale repeats the right answer and adds what one sees as well: to looks a position, to a
position looks. All four agree with the answer; one is true of the picture and supports it.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from input_pipeline.datasets.records import MultipleChoice, ObjectBox, Token
from input_pipeline.datasets.scenes import captions, graph, render
from input_pipeline.datasets.scenes.questions import pick
from input_pipeline.datasets.scenes.references import plainly

_LOOKS = ("size", "colour", "material")
_Text = tuple[Token, ...]


def _write(text: str, *objects: int) -> _Text:
    """Tokens of a text; "0" and "1" stand for the mention of an object, "01" for that of both."""
    return tuple(
        Token("", tuple(objects[int(letter)] for letter in word)) if word.isdigit() else Token(word)
        for word in text.split()
    )


class _Writer:
    """Writes about objects `i` and `j` of a scene, whose relation is plain."""

    def __init__(self, scene: graph.Scene, i: int, j: int, rng: np.random.Generator):
        self.scene, self.rng = scene, rng
        self.i, self.j = scene.objects[i], scene.objects[j]
        self.relation = plainly(self.i, self.j)

    def two(self, o: graph.Object, kind: str) -> list[str]:
        """The object's word of a kind, then another."""
        own = getattr(o, kind)
        return [own, pick(self.rng, [w for w in graph.ATTRIBUTES[kind] if w != own])]

    def said(self, kind: str, word: str) -> str:
        return f"made of {word}" if kind == "material" else word

    def relations(self) -> list[str]:
        """The wording of the relation, then those of the other three."""
        rest = [r for r in graph.RELATIONS if r != self.relation]
        return [pick(self.rng, captions.RELATION_WORDINGS[r]) for r in (self.relation, *rest)]

    def because_of_place(self, looks: str) -> list[str]:
        return [f"because 0 is {relation} 1 and 0 is {looks} ." for relation in self.relations()]

    # Each gives (question, answers, rationales), the first answer and rationale being the true.

    def colour(self) -> tuple[str, list[str], list[str]]:
        """Wrong colours are those of other objects, as far as there are any."""
        own = self.i.colour
        others = {o.colour for o in self.scene.objects} - {own}
        rest = [graph.COLOURS[n] for n in self.rng.permutation(len(graph.COLOURS))]
        rest = sorted((c for c in rest if c != own), key=lambda c: c not in others)
        question = pick(self.rng, ("what colour is 0 ?", "what is the colour of 0 ?"))
        answers = [f"0 is {colour} ." for colour in (own, *rest[:3])]
        return question, answers, self.because_of_place(own)

    def looks(self) -> tuple[str, list[str], list[str]]:
        """Two attributes of an object."""
        a, b = sorted(self.rng.permutation(len(_LOOKS))[:2].tolist())
        kinds = (_LOOKS[a], _LOOKS[b])
        looks = [
            f"{self.said(kinds[0], first)} and {self.said(kinds[1], second)}"
            for first, second in itertools.product(*(self.two(self.i, kind) for kind in kinds))
        ]
        question = pick(self.rng, ("what does 0 look like ?", "how does 0 look ?"))
        return question, [f"0 is {w} ." for w in looks], self.because_of_place(looks[0])

    def both(self) -> tuple[str, list[str], list[str]]:
        """One attribute of two objects."""
        kind = pick(self.rng, _LOOKS)
        looks = [
            f"0 is {self.said(kind, first)} and 1 is {self.said(kind, second)}"
            for first, second in itertools.product(self.two(self.i, kind), self.two(self.j, kind))
        ]
        question = pick(self.rng, ("what do 01 look like ?", "how do 01 look ?"))
        rationales = [
            f"because 0 is {relation} 1 and {looks[0]} ." for relation in self.relations()
        ]
        return question, [f"{w} ." for w in looks], rationales

    def where(self) -> tuple[str, list[str], list[str]]:
        """The position of an object, which its looks and those of the other confirm."""
        relations = self.relations()
        kind = pick(self.rng, _LOOKS)
        rationales = [
            f"because 0 is {self.said(kind, first)} , 1 is {self.said(kind, second)} "
            f"and 0 is {relations[0]} 1 ."
            for first, second in itertools.product(self.two(self.i, kind), self.two(self.j, kind))
        ]
        question = pick(self.rng, ("where is 0 ?", "where is 0 in the picture ?"))
        return question, [f"0 is {relation} 1 ." for relation in relations], rationales


FORMS = ("colour", "looks", "both", "where")


def _shuffled(choices: Sequence[_Text], rng: np.random.Generator) -> tuple[tuple[_Text, ...], int]:
    """The choices in a random order, and where the first one went."""
    order = rng.permutation(len(choices)).tolist()
    return tuple(choices[n] for n in order), order.index(0)


def multiple_choice(scene: graph.Scene, seed: int) -> tuple[MultipleChoice, ...]:
    """One question of each of FORMS: a pure function of scene and seed.

    None where no two objects are plainly related. `objects` are shuffled, since a scene lists its
    objects from left to right.
    """
    rng = graph.generator(seed, scene.image_id, "multiple choice")
    n = len(scene.objects)
    order = rng.permutation(n).tolist()
    boxes = [tuple(map(float, box)) for box in render.true_boxes(scene)]
    objects = tuple(ObjectBox(name=scene.objects[i].shape, box=boxes[i]) for i in order)
    pairs = [
        (i, j)
        for i, j in itertools.permutations(range(n), 2)
        if plainly(scene.objects[i], scene.objects[j]) is not None
    ]
    made = []
    for form in FORMS if pairs else ():
        i, j = pick(rng, pairs)
        places = order.index(i), order.index(j)
        question, *choices = getattr(_Writer(scene, i, j, rng), form)()
        (answers, answer), (rationales, rationale) = (
            _shuffled([_write(text, *places) for text in texts], rng) for texts in choices
        )
        made.append(
            MultipleChoice(
                text_id=f"{scene.image_id}-{form}",
                image_id=scene.image_id,
                height=scene.height,
                width=scene.width,
                question=_write(question, *places),
                answers=answers,
                rationales=rationales,
                answer_label=answer,
                rationale_label=rationale,
                objects=objects,
            )
        )
    return tuple(made)
