"""Statements about two scenes, true or false, in the manner of NLVR2.

As with questions of yes or no, all but the attribute words is fixed first; a statement is made
where the two scenes have words that make it true and words that make it false, and a coin
decides. Within a form all words are alike to a scene, so the text does not tell the label.
"""

import itertools
from collections.abc import Callable

import numpy as np

from input_pipeline.datasets.records import Statement
from input_pipeline.datasets.scenes import graph
from input_pipeline.datasets.scenes.questions import MENTIONS, all_words, nearest, pick
from input_pipeline.datasets.scenes.references import phrase, plural, words

LABELS = ("False", "True")
_MADE = 3  # statements of two scenes, where they allow as many
_NUMBERS = ("no", "one", "two", "three", "four")
_Count = Callable[[tuple[str, ...]], tuple[int, int]]
# [(text, whether it is true)]: one form with all its words
_Variants = list[tuple[str, bool]]


class _Writer:
    """Writes statements about a left and a right scene."""

    def __init__(self, left: graph.Scene, right: graph.Scene, rng: np.random.Generator):
        self.rng, self.scenes = rng, (left, right)
        self.image = pick(rng, ("image", "picture"))

    def counts(self, kinds: tuple[str, ...], said: tuple[str, ...]) -> tuple[int, int]:
        """How many objects of the left and of the right scene these words fit."""
        left, right = (sum(words(o, kinds) == said for o in s.objects) for s in self.scenes)
        return left, right

    def near(self, kinds: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Words that fit an object, and words that nearly do."""
        objects = [o for scene in self.scenes for o in scene.objects]
        there = {words(o, kinds) for o in objects}
        options = all_words(kinds)
        absent = nearest([w for w in options if w not in there], objects, kinds)
        return [w for w in options if w in there] + absent

    def quantified(self) -> _Variants:
        """Both images, neither, exactly one of them show an object."""
        kinds = pick(self.rng, MENTIONS)
        image = self.image
        opening, images = pick(
            self.rng,
            (
                (f"both {image}s show", (2,)),
                (f"neither {image} shows", (0,)),
                (f"exactly one {image} shows", (1,)),
                (f"at least one {image} shows", (1, 2)),
                (f"at most one {image} shows", (0, 1)),
            ),
        )
        return [
            (f"{opening} a {phrase(kinds, w)}", sum(map(bool, self.counts(kinds, w))) in images)
            for w in self.near(kinds)
        ]

    def total(self) -> _Variants:
        """A count over both."""
        kinds = (pick(self.rng, ("colour", "shape", "size", "material")),)
        number = pick(self.rng, range(1, len(_NUMBERS)))
        bound, holds = pick(
            self.rng,
            (
                ("exactly", int.__eq__),
                ("at least", int.__ge__),
                ("at most", int.__le__),
            ),
        )

        def text(said):
            name = phrase(kinds, said) if number == 1 else plural(kinds, said)
            verb = "is" if number == 1 else "are"
            return (
                f"there {verb} {bound} {_NUMBERS[number]} {name} in the two {self.image}s together"
            )

        return [(text(w), holds(sum(self.counts(kinds, w)), number)) for w in all_words(kinds)]

    def compared(self) -> _Variants:
        """A count of one image against that of the other, for all words and either order."""
        kinds = (pick(self.rng, ("colour", "shape", "size", "material")),)
        how, holds = pick(
            self.rng,
            (
                ("more {} than", int.__gt__),
                ("fewer {} than", int.__lt__),
                ("as many {} as", int.__eq__),
            ),
        )
        made = []
        for said in all_words(kinds):
            counts = self.counts(kinds, said)
            if not any(counts):
                continue
            for first, second in ((0, 1), (1, 0)):
                sides = ("left", "right")[first], ("left", "right")[second]
                text = f"the {sides[0]} {self.image} has {how.format(plural(kinds, said))} the"
                made.append((f"{text} {sides[1]} one", holds(counts[first], counts[second])))
        return made

    def each(self) -> _Variants:
        """An object of one image and another of the other."""
        kinds = pick(self.rng, MENTIONS)
        left, right = ({words(o, kinds) for o in s.objects} for s in self.scenes)
        made = []
        for a, b in itertools.permutations(self.near(kinds), 2):
            there = a in left, b in right
            # Repeated words would make a form of their own.
            if not any(there) or any(map(str.__eq__, a, b)):
                continue
            text = f"the left {self.image} has a {phrase(kinds, a)} and the right one has a"
            made.append((f"{text} {phrase(kinds, b)}", all(there)))
        return made

    def objects(self) -> _Variants:
        """The number of all objects of one image against the other's."""
        counts = tuple(len(s.objects) for s in self.scenes)
        return [
            (f"the left {self.image} has more objects than the right one", counts[0] > counts[1]),
            (f"the left {self.image} has fewer objects than the right one", counts[0] < counts[1]),
        ]


FORMS = ("quantified", "quantified", "total", "compared", "each", "objects")


def statements(scene_a: graph.Scene, scene_b: graph.Scene, seed: int) -> tuple[Statement, ...]:
    """Up to three statements; `scene_a` is the left image, `scene_b` the right one.

    A pure function of both scenes and the seed; both labels are equally likely.
    """
    name = f"{scene_a.image_id}+{scene_b.image_id}"
    rng = graph.generator(seed, name, "statements")
    made: dict[str, bool] = {}
    for n in rng.permutation(len(FORMS)).tolist():
        variants = getattr(_Writer(scene_a, scene_b, rng), FORMS[n])()
        label = bool(rng.integers(2))
        if len(made) < _MADE and len({true for _, true in variants}) == 2:
            text, _ = pick(rng, [v for v in variants if v[1] == label])
            made.setdefault(text, label)
    return tuple(
        Statement(
            text_id=f"{name}-{n}",
            image_ids=(scene_a.image_id, scene_b.image_id),
            text=text,
            label=int(true),
            label_name=LABELS[true],
        )
        for n, (text, true) in enumerate(made.items())
    )
