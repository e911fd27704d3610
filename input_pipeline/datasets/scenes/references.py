"""Phrases that single out one object of a scene, and positions that nobody would dispute.

A phrase is built from chosen kinds of attributes alone and never looks at the others, so what it
says is independent of them: "the small ball" tells nothing of the ball's colour.
"""

import itertools

import numpy as np

from input_pipeline.datasets.scenes import captions, graph

KINDS = ("size", "colour", "material", "shape")  # in the order in which they are written
_LOOSE = 6  # pixels that an object may lie on the wrong side and still be in doubt


def _offsets(a: graph.Object, relation: str, b: graph.Object) -> tuple[int, int]:
    """Pixels from b to a in the direction of the relation, and across it (>= 0)."""
    dx, dy = a.x - b.x, a.y - b.y
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    return (-along if relation in ("left of", "above") else along), abs(across)


def plainly(a: graph.Object, b: graph.Object) -> str | None:
    """What a is to b where it is twice as far along one axis as along the other, else None."""
    for relation in graph.RELATIONS:
        along, across = _offsets(a, relation, b)
        if along > 0 and along >= 2 * across:
            return relation
    return None


def perhaps(a: graph.Object, relation: str, b: graph.Object) -> bool:
    """Whether anybody could say so: a lies on that side of b, however far across."""
    return _offsets(a, relation, b)[0] > -_LOOSE


def extremes(scene: graph.Scene) -> list[tuple[str, int]]:
    """(wording of captions.EXTREMES, index) of the objects that lead by more than _LOOSE pixels."""
    found = []
    for wording, (axis, sign) in captions.EXTREMES.items():
        at = sorted((-sign * getattr(o, axis), i) for i, o in enumerate(scene.objects))
        if at[1][0] - at[0][0] > _LOOSE:
            found.append((wording, at[0][1]))
    return found


def words(o: graph.Object, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The object's words of some kinds."""
    return tuple(getattr(o, kind) for kind in kinds)


def phrase(kinds: tuple[str, ...], said: tuple[str, ...], noun: str = "thing") -> str:
    """A noun phrase without article: "small red ball", or "red thing" where no shape is said."""
    return " ".join(said if "shape" in kinds else (*said, noun))


def plural(kinds: tuple[str, ...], said: tuple[str, ...]) -> str:
    """The same for several: "small red balls", "red things"."""
    return phrase(kinds, said) + "s"


def smallest(scene: graph.Scene, i: int, kinds: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The smallest sets of kinds whose words fit object i and no other; none if all fail."""
    shared = [
        {kind for kind in kinds if getattr(o, kind) == getattr(scene.objects[i], kind)}
        for j, o in enumerate(scene.objects)
        if j != i
    ]
    for size in range(1, len(kinds) + 1):
        found = [
            chosen
            for chosen in itertools.combinations(kinds, size)
            if not any(same.issuperset(chosen) for same in shared)
        ]
        if found:
            return found
    return []


def by_attributes(
    scene: graph.Scene,
    i: int,
    kinds: tuple[str, ...],
    rng: np.random.Generator,
    noun: str = "thing",
) -> str | None:
    """A shortest phrase of attributes that fits object i alone, or None."""
    found = smallest(scene, i, kinds)
    if not found:
        return None
    chosen = found[rng.integers(len(found))]
    return phrase(chosen, words(scene.objects[i], chosen), noun)


def by_relation(
    scene: graph.Scene,
    i: int,
    kinds: tuple[str, ...],
    rng: np.random.Generator,
    noun: str = "thing",
) -> str | None:
    """A shortest phrase such as "ball left of the red cube" that fits object i alone, or None.

    The other object is singled out by its attributes; no second object of the same words may lie
    on the same side of it, not even loosely.
    """
    objects, found = scene.objects, []
    for j, anchor in enumerate(objects):
        relation = plainly(objects[i], anchor) if j != i else None
        if relation is None:
            continue
        for head in ((), *((kind,) for kind in kinds)):
            rivals = [
                o
                for k, o in enumerate(objects)
                if k not in (i, j)
                and words(o, head) == words(objects[i], head)
                and perhaps(o, relation, anchor)
            ]
            if not rivals:
                found += [(head, relation, j, said) for said in smallest(scene, j, kinds)]
    if not found:
        return None
    shortest = min(len(head) + len(said) for head, _, _, said in found)
    found = [f for f in found if len(f[0]) + len(f[3]) == shortest]
    head, relation, j, said = found[rng.integers(len(found))]
    wordings = captions.RELATION_WORDINGS[relation]
    first = phrase(head, words(objects[i], head), noun)
    second = phrase(said, words(objects[j], said))
    return f"{first} {wordings[rng.integers(len(wordings))]} the {second}"


def by_extreme(
    scene: graph.Scene,
    i: int,
    kinds: tuple[str, ...],
    rng: np.random.Generator,
    noun: str = "thing",
) -> str | None:
    """A phrase such as "thing at the very left", of an object that plainly leads, or None."""
    found = [wording for wording, leader in extremes(scene) if leader == i]
    if not found:
        return None
    kinds = ("shape",) if "shape" in kinds and rng.random() < 0.5 else ()
    wording = found[rng.integers(len(found))]
    return f"{phrase(kinds, words(scene.objects[i], kinds), noun)} {wording}"


STYLES = (by_attributes, by_relation, by_extreme)


def reference(
    scene: graph.Scene, i: int, kinds: tuple[str, ...], rng: np.random.Generator
) -> str | None:
    """A phrase in any style that there is, or None."""
    found = [text for style in STYLES if (text := style(scene, i, kinds, rng)) is not None]
    return found[rng.integers(len(found))] if found else None


def without(*kinds: str) -> tuple[str, ...]:
    """All kinds but these."""
    return tuple(kind for kind in KINDS if kind not in kinds)
