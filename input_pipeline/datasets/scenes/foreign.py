"""Captions of other images that are false of an image: the other half of an alignment label.

A caption drawn at random may be true of the image too ("a red cube"), and its label would be
wrong. A caption that is drawn again until it is false would tell by itself: those that say little
would come less often. So the captions of a split are dealt out as in a shuffled pack, every one
as often as any other, and those that fall on an image they are true of change places.
"""

from collections.abc import Sequence

from input_pipeline.datasets.scenes import captions, graph

WIDTH = 4  # foreign captions of each caption
_TRIES = 200  # of changing places; some captions of a tiny split are true of every image


def text_id(image_id: str, number: int) -> str:
    """Name of an image's caption."""
    return f"{image_id}-{number}"


def deal(
    scenes: Sequence[graph.Scene], texts: Sequence[Sequence[captions.Caption]], seed: int
) -> list[list[tuple[str, ...]]]:
    """Foreign captions of every caption of a split: a pure function of its arguments.

    Args:
      scenes: of the split.
      texts: the captions of each.
      seed: of the data set.

    Returns:
      For each scene and caption up to WIDTH names; fewer only where no place could be found, which
      takes a split of a few images.
    """
    flat = [(i, n) for i, own in enumerate(texts) for n in range(len(own))]
    found: list[list[str]] = [[] for _ in flat]

    def fits(caption: int, place: int) -> bool:
        (other, n), (own, _) = flat[caption], flat[place]
        return not captions.true_of(texts[other][n], scenes[own])  # an image's own are true of it

    for pack in range(WIDTH):
        rng = graph.generator(seed, scenes[0].split, f"foreign captions {pack}")
        dealt = rng.permutation(len(flat)).tolist()
        for place in range(len(flat)):
            if fits(dealt[place], place):
                continue
            for other in rng.integers(len(flat), size=_TRIES).tolist():
                # Places before this one fit already, and so they do afterwards.
                if fits(dealt[other], place) and fits(dealt[place], other):
                    dealt[place], dealt[other] = dealt[other], dealt[place]
                    break
        for place, caption in enumerate(dealt):
            if fits(caption, place):
                other, n = flat[caption]
                found[place].append(text_id(scenes[other].image_id, n))
    names = iter(map(tuple, found))
    return [[next(names) for _ in own] for own in texts]
