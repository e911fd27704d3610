"""Texts with one marked word that only the picture can tell, and that one value alone makes true.

Half of the kinds of rows are what people say when they point: an object that its attributes
single out, and one word about it ("the red cube is [small]", "the ball is [left] of the blue star",
"the small thing is on the [top] side"). The other half are the scene's captions, with one of their
marked words each. Which word is asked of is not left to chance: each kind of row is a source of its
own, so that `data.weights` says how often a word of size or of place is learned from.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from input_pipeline.datasets.scenes import captions, graph, references

KINDS = tuple(captions.KINDS)
SOURCES = (*(f"plain: {kind}" for kind in KINDS), *(f"caption: {kind}" for kind in KINDS))
VERSION = 1
_PLAIN = 2  # sentences of each kind and scene, where there are as many
# Pixels by which an object must be nearer to one side than to the middle, and than to other sides.
_SIDE = 12
_VERBS = {
    "size": ("is",),
    "material": ("is", "made", "of"),
    "colour": ("is",),
    "shape": ("is", "a"),
}


def cloze(scene: graph.Scene, seed: int) -> Iterator[tuple[int, captions.Sentence]]:
    """(number in SOURCES, text with one marked word) of a scene: a pure function of both."""
    rng = graph.generator(seed, scene.image_id, "cloze")
    for source, kind in enumerate(KINDS):
        made = [m for m in (_plain(scene, i, kind, rng) for i in _shuffled(scene, rng)) if m]
        for caption in made[:_PLAIN]:
            yield source, caption
    found: dict[int, list[captions.Sentence]] = {}
    for caption in captions.captions(scene, seed):
        for number, (*_, kind) in enumerate(caption.probe):
            if captions.only_one(caption, number, scene):
                found.setdefault(kind, []).append(caption.with_one(number))
    for kind, options in sorted(found.items()):
        yield len(KINDS) + kind, options[rng.integers(len(options))]


def swapped(
    sentence: captions.Sentence, scene: graph.Scene, number: int, seed: int
) -> captions.Sentence:
    """A text of `cloze` with another word of its kind in place of the marked one: false.

    Args:
      sentence: true of the scene, with one marked word.
      scene: the scene.
      number: of the text among the scene's.
      seed: of the data set.
    """
    ((start, end, kind),) = sentence.probe
    rng = graph.generator(seed, scene.image_id, f"swapped {number}")
    others = [w for w in captions.KINDS[KINDS[kind]] if w != sentence.text[start:end]]
    word = others[rng.integers(len(others))]
    more = len(word) - (end - start)

    def moved(span: tuple[int, int, int]) -> tuple[int, int, int]:
        return (span[0] + more * (span[0] > start), span[1] + more * (span[1] >= end), span[2])

    return captions.Sentence(
        sentence.text[:start] + word + sentence.text[end:],
        tuple(map(moved, sentence.probe)),
        tuple(map(moved, sentence.mentions)),
    )


def _shuffled(scene: graph.Scene, rng: np.random.Generator) -> Iterable[int]:
    return rng.permutation(len(scene.objects)).tolist()


def _plain(
    scene: graph.Scene, i: int, kind: str, rng: np.random.Generator
) -> captions.Sentence | None:
    """A sentence about object i whose word of a kind is marked, or None where there is none."""
    named = _named(scene, i, references.without(kind), rng)
    if named is None:
        return None
    if kind in graph.ATTRIBUTES:
        word = captions.Word(getattr(scene.objects[i], kind), i, kind)
        return captions.Sentence.of([*named, *(captions.Word(w, i) for w in _VERBS[kind]), word])
    if kind == "place":
        side = _side(scene.objects[i])
        if side is None:
            return None
        words = ("is", "on", "the", side, "side")
        return captions.Sentence.of(
            [*named, *(captions.Word(w, i, "place" * (w == side)) for w in words)]
        )
    others = [j for j in _shuffled(scene, rng) if j != i]
    for j in others:
        relation = references.plainly(scene.objects[i], scene.objects[j])
        second = _named(scene, j, references.KINDS, rng)
        if relation is None or second is None or relation.split()[0] not in captions.KINDS[kind]:
            continue
        # The first wording alone has the marked word wherever it is said.
        wordings = [w for w in captions.RELATION_WORDINGS[relation] if relation.split()[0] in w]
        wording = wordings[rng.integers(len(wordings))]
        return captions.Sentence.of([*named, "is", *captions.relating(wording, i), *second])
    return None


def _named(
    scene: graph.Scene, i: int, kinds: tuple[str, ...], rng: np.random.Generator
) -> list[str] | None:
    """ "the red cube", which fits object i alone; None where nothing does."""
    text = references.by_attributes(scene, i, kinds, rng)
    return None if text is None else [captions.Word(w, i) for w in ("the", *text.split())]


def _side(o: graph.Object) -> str | None:
    """The side of the picture that an object is plainly nearest to."""
    right, below = o.x - graph.WIDTH // 2, o.y - graph.HEIGHT // 2
    if max(abs(right), abs(below)) < _SIDE or abs(abs(right) - abs(below)) < _SIDE:
        return None
    if abs(right) > abs(below):
        return "right" if right > 0 else "left"
    return "bottom" if below > 0 else "top"
