"""Five captions of a scene, in varied wording, with the words marked that only a picture tells.

Wording and the choice of the objects mentioned are drawn without a look at any attribute, so the
text around an attribute word says nothing about it (probe.py measures that). Every caption is
true of its scene; "a" and "the" claim no uniqueness. Lower case, words separated by one space.

What a caption says is recorded while it is written (`Claims`), so that `true_of` can tell whether
it is true of any other scene as well, and `only_one` whether a marked word is the only one of its
kind that makes it true. So is, for each word that speaks of an object, which object that is.

"leftmost" and its like are avoided: flipping a picture exchanges the words left and right only.
"""

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from input_pipeline.datasets.scenes import graph

# {kind: its words} of all words that are marked; each is as likely as the others of its kind,
# whatever the words around it.
KINDS = {
    **graph.ATTRIBUTES,
    "left_right": ("left", "right"),
    "above_below": ("above", "below"),
    "place": ("left", "right", "top", "bottom"),
}
RELATION_WORDINGS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "higher than"),
    "below": ("below", "lower than"),
}
# Wording -> (axis, sign): the object that is furthest in that direction.
EXTREMES = {
    "at the very left": ("x", -1),
    "at the very right": ("x", 1),
    "at the very top": ("y", -1),
    "at the very bottom": ("y", 1),
}
# Pixels by which an extreme object must lead to be called so. In other scenes, what is nearer than
# this is in doubt (`true_of`).
_CLEAR = 6
_PICTURES = ("picture", "image", "scene")
_THINGS = ("object", "thing")
# What a mention names, before the noun, and whether it names the shape; with probabilities.
_MENTIONS = (
    (("colour",), True, 0.58),
    (("size", "colour"), True, 0.12),
    (("colour", "material"), True, 0.10),
    (("colour",), False, 0.12),
    (("material",), True, 0.04),
    (("size",), True, 0.04),
)
_MENTION_ENDS = np.cumsum([m[2] for m in _MENTIONS])


@dataclasses.dataclass(frozen=True)
class Claims:
    """What a caption says of the objects it mentions, which are numbered and all different.

    Attributes:
      mentions: words said of each, such as ("small", "red", "cube").
      relations: (number, one of graph.RELATIONS, number).
      extremes: (number, key of EXTREMES).
    """

    mentions: tuple[tuple[str, ...], ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    extremes: tuple[tuple[int, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A text about a scene.

    Attributes:
      text: the sentence.
      probe: (start, end, number of its kind in KINDS) of each marked word, in characters.
      mentions: (start, end, index of the object) of each word that speaks of an object.
    """

    text: str
    probe: tuple[tuple[int, int, int], ...]
    mentions: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, words: Iterable[str]) -> "Sentence":
        """Of words, those that speak of objects being a `Word`."""
        kinds = list(KINDS)
        probe, mentions, start = [], [], 0
        for word in words:
            end = start + len(word)
            if isinstance(word, Word):
                mentions.append((start, end, word.of))
                if word.kind:
                    probe.append((start, end, kinds.index(word.kind)))
            start = end + 1
        return cls(" ".join(words), tuple(probe), tuple(mentions))

    def with_one(self, number: int) -> "Sentence":
        """The same text with marked word `number` alone."""
        return Sentence(self.text, (self.probe[number],), self.mentions)


@dataclasses.dataclass(frozen=True)
class Caption(Sentence):
    """A sentence and what it says.

    Attributes:
      claims: what it says.
      others: for each marked word what the caption would say with the other words of its kind.
    """

    claims: Claims
    others: tuple[tuple[Claims, ...], ...] = ()


def _related(a: graph.Object, relation: str, b: graph.Object) -> bool:
    dx, dy = b.x - a.x, b.y - a.y
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    if relation in ("right of", "below"):
        along = -along
    return along >= abs(across) - _CLEAR


def _extreme(a: graph.Object, wording: str, scene: graph.Scene) -> bool:
    axis, sign = EXTREMES[wording]
    return all(sign * (getattr(a, axis) - getattr(o, axis)) > -_CLEAR for o in scene.objects)


def true_of(caption: Caption, scene: graph.Scene) -> bool:
    """Whether different objects of the scene can be found for all that the caption mentions.

    What hangs on less than _CLEAR pixels counts as true: a relation whose two axes are about even,
    an extreme that another object nearly shares. So "not true" is plain to see.
    """
    return _hold(caption.claims, scene)


def _hold(claims: Claims, scene: graph.Scene) -> bool:
    objects = scene.objects
    words = [(o.shape, o.colour, o.size, o.material) for o in objects]
    fitting = []
    for said in claims.mentions:
        fitting.append([i for i, has in enumerate(words) if all(word in has for word in said)])
        if not fitting[-1]:
            return False
    return any(
        len(set(chosen)) == len(chosen)
        and all(_related(objects[chosen[i]], r, objects[chosen[j]]) for i, r, j in claims.relations)
        and all(_extreme(objects[chosen[i]], wording, scene) for i, wording in claims.extremes)
        for chosen in itertools.product(*fitting)
    )


def only_one(caption: Caption, number: int, scene: graph.Scene) -> bool:
    """Whether no other word of its kind than marked word `number` makes a caption true."""
    return not any(_hold(claims, scene) for claims in caption.others[number])


class Word(str):
    """A word that speaks of an object, maybe one that only the picture can tell.

    Attributes:
      of: index of the object.
      kind: key of KINDS; "" if it is not marked.
      at: where `Claims` have it: (index of the object, number of its word), or the number of a
        relation or an extreme.
    """

    of: int
    kind: str
    at: tuple[int, ...]

    def __new__(cls, text: str, of: int, kind: str = "", at: tuple[int, ...] = ()) -> "Word":
        word = super().__new__(cls, text)
        word.of, word.kind, word.at = of, kind, at
        return word


def _replaced(items: tuple, at: int, new) -> tuple:
    return (*items[:at], new, *items[at + 1 :])


def _others(word: Word, claims: Claims, number: dict[int, int]) -> tuple[Claims, ...]:
    """What a caption would say with other words in place of a marked one."""
    made = []
    for other in KINDS[word.kind]:
        if other == word:
            continue
        if word.kind in graph.ATTRIBUTES:
            n, place = number[word.at[0]], word.at[1]
            mention = _replaced(claims.mentions[n], place, other)
            new = dict(mentions=_replaced(claims.mentions, n, mention))
        elif word.kind == "place":
            n, _ = claims.extremes[word.at[0]]
            new = dict(extremes=_replaced(claims.extremes, word.at[0], (n, f"at the very {other}")))
        else:
            i, relation, j = claims.relations[word.at[0]]
            opposite = (i, graph.OPPOSITE[relation], j)
            new = dict(relations=_replaced(claims.relations, word.at[0], opposite))
        made.append(dataclasses.replace(claims, **new))
    return tuple(made)


def relating(wording: str, i: int, number: int = 0) -> list[Word]:
    """The words of a relation of object i, number `number` of a caption's."""
    kinds = {w: kind for kind in ("left_right", "above_below") for w in KINDS[kind]}
    return [Word(w, i, kinds.get(w, ""), (number,)) for w in wording.split()]


class _Writer:
    """Writes sentences about one scene. Sentences are lists of words."""

    def __init__(self, scene: graph.Scene, rng: np.random.Generator):
        self.scene = scene
        self.rng = rng

    def write(self, form: str) -> Caption:
        """A caption of a form, with what it says by object as the form's methods record it."""
        self._said: dict[int, list[str]] = {}
        self._relations: list[tuple[int, str, int]] = []
        self._extremes: list[tuple[int, str]] = []
        words = getattr(self, form)()
        number = {i: n for n, i in enumerate(self._said)}
        claims = Claims(
            mentions=tuple(map(tuple, self._said.values())),
            relations=tuple((number[i], r, number[j]) for i, r, j in self._relations),
            extremes=tuple((number[i], wording) for i, wording in self._extremes),
        )
        marked = [word for word in words if isinstance(word, Word) and word.kind]
        others = tuple(_others(word, claims, number) for word in marked)
        return Caption(**vars(Sentence.of(words)), claims=claims, others=others)

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def some(self, n: int) -> list[int]:
        """n different objects, any of them equally likely."""
        return self.rng.permutation(len(self.scene.objects))[:n].tolist()

    def word(self, i: int, kind: str) -> Word:
        word, said = getattr(self.scene.objects[i], kind), self._said.setdefault(i, [])
        said.append(word)
        return Word(word, i, kind, (i, len(said) - 1))

    def mention(self, i: int, *, short: bool = False) -> list[str]:
        """ "a red cube", "the small red cube", "one metal cone", "a red thing"."""
        chosen = int(np.searchsorted(_MENTION_ENDS, self.rng.random() * _MENTION_ENDS[-1]))
        kinds, has_shape, _ = _MENTIONS[0 if short else chosen]
        noun = self.word(i, "shape") if has_shape else Word(self.pick(_THINGS), i)
        article = Word(self.pick(("a", "a", "the", "one")), i)
        return [article, *(self.word(i, k) for k in kinds), noun]

    def relation(self, i: int, j: int) -> list[Word]:
        relation = self.scene.relation(i, j)
        self._relations.append((i, relation, j))
        return relating(self.pick(RELATION_WORDINGS[relation]), i, len(self._relations) - 1)

    def opening(self) -> list[str]:
        """Words before a mention; often none."""
        return self.pick(
            (
                [],
                [],
                ["there", "is"],
                ["here", "is"],
                ["we", "see"],
                ["you", "can", "see"],
                ["this", self.pick(_PICTURES), "shows"],
                ["the", self.pick(_PICTURES), "has"],
            )
        )

    def single(self) -> list[str]:
        """One object, or what one of its attributes is."""
        (i,) = self.some(1)
        form = int(self.rng.integers(7))
        if form <= 2:
            return [*self.opening(), *self.mention(i)]
        if form == 3:
            where = self.pick((["in", "the"], ["is", "in", "this"]))
            return [*self.mention(i), *where, self.pick(_PICTURES)]
        if form == 4:
            return [self.pick(("a", "the")), self.word(i, "shape"), "is", self.word(i, "colour")]
        if form == 5:
            subject = [self.pick(("a", "the")), self.word(i, "colour"), self.word(i, "shape")]
            kind, verb = self.pick((("size", "is"), ("material", "is made of")))
            return [*subject, *verb.split(), self.word(i, kind)]
        return ["one", "of", "the", self.pick(_THINGS) + "s", "is", *self.mention(i)]

    def pair(self) -> list[str]:
        """Two objects and their relation."""
        i, j = self.some(2)
        first, relation, second = self.mention(i), self.relation(i, j), self.mention(j)
        form = int(self.rng.integers(4))
        if form == 0:
            return [*self.opening(), *first, *relation, *second]
        if form == 3:
            return [*relation, *second, *self.pick(("is", "there is", "we see")).split(), *first]
        return [*first, "is", *relation, *second]

    def chain(self) -> list[str]:
        """An object's relations to two others; a pair where there is no third."""
        if len(self.scene.objects) < 3:
            return self.pair()
        i, j, k = self.some(3)
        # One direction tells of the other (who is left of one is oftener left of both), so neither
        # is marked.
        first, second = ([Word(w, w.of) for w in self.relation(i, other)] for other in (j, k))
        return [
            *self.mention(i, short=True),
            *self.pick(("is", "is", "")).split(),
            *first,
            *self.mention(j, short=True),
            "and",
            *second,
            *self.mention(k, short=True),
        ]

    def listing(self) -> list[str]:
        """Two or three objects, without relations."""
        many = self.some(int(self.rng.integers(2, 4)))
        words = [*self.opening(), *self.mention(many[0])]
        for i in many[1:]:
            words += [self.pick(("and", "and", "with")), *self.mention(i, short=len(many) > 2)]
        return words

    def extreme(self) -> list[str]:
        """The object furthest to one side, and to no other; a pair where none leads clearly."""
        clear = []
        for wording, (axis, sign) in EXTREMES.items():
            at = sorted((-sign * getattr(o, axis), i) for i, o in enumerate(self.scene.objects))
            leader = self.scene.objects[at[0][1]]
            alone = sum(_extreme(leader, other, self.scene) for other in EXTREMES) == 1
            if alone and at[1][0] - at[0][0] >= _CLEAR:
                clear.append((wording, at[0][1]))
        if not clear:
            return self.pair()
        wording, i = self.pick(clear)
        self._extremes.append((i, wording))
        place = [Word(w, i, "place" * (w in KINDS["place"]), (0,)) for w in wording.split()]
        thing = [Word("the", i), Word(self.pick(_THINGS), i)]
        form = int(self.rng.integers(4))
        if form == 0:
            return [*self.mention(i), "is", *place]
        if form == 1:
            return [*thing, *place, "is", self.word(i, "colour")]
        if form == 2:
            return [*thing, *place, "is", *self.mention(i)]
        return [*place, *self.pick(("is", "there is", "we see")).split(), *self.mention(i)]


FORMS = ("single", "pair", "listing", "chain", "extreme")


def captions(scene: graph.Scene, seed: int) -> list[Caption]:
    """Five captions, one of each of `FORMS`: a pure function of the scene and the seed."""
    writer = _Writer(scene, graph.generator(seed, scene.image_id, "captions"))
    return [writer.write(form) for form in FORMS]
