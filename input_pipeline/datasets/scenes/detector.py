"""A detector that is wrong now and then: what `scenes` has in place of a trained one.

It misses objects, invents regions, shifts boxes, and confuses similar colours and shapes in its
class distribution. Features come from the pixels inside the box alone, so they hold exactly what
a picture shows: the pixels on a fixed grid, through a fixed random projection and a ReLU.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from input_pipeline.datasets.scenes import graph, render

NAME = "scenes-detector-v1"
# Column 0 is the background, then shapes x colours.
CLASSES = ("background", *(f"{c} {s}" for s in graph.SHAPES for c in graph.COLOURS))
_GRID = 8  # the pixels of a box are averaged onto _GRID x _GRID cells, 2 x 2 samples each
# Pairs that the class distribution takes for each other now and then.
_SIMILAR = {
    ("red", "purple"), ("blue", "purple"), ("green", "gray"), ("red", "yellow"),
    ("ball", "ring"), ("cone", "star"), ("cube", "cone"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Noise:
    """How often and how far the detector errs."""

    jitter: float = 0.03  # standard deviation of each side, as a share of the box
    missed: float = 0.05  # probability that an object is not found
    spurious: float = 0.3  # mean number of invented regions an image
    most_spurious: int = 3
    partial: float = 0.5  # share of the invented regions that show a part of an object
    sharpness: float = 4.5  # logit of the right colour, and of the right shape
    similar: float = 2.0  # logit of a similar colour or shape
    logit_noise: float = 1.0  # standard deviation


@dataclasses.dataclass(frozen=True)
class Regions:
    """What the detector says of one image: boxes[n,4] xyxy pixels, class_probs[n,C]."""

    boxes: np.ndarray
    class_probs: np.ndarray
    objects: np.ndarray  # int [n]: index of the object, -1 = invented; never written to the store


def class_of(o: graph.Object) -> int:
    """The detector class of an object."""
    return 1 + graph.SHAPES.index(o.shape) * len(graph.COLOURS) + graph.COLOURS.index(o.colour)


@functools.cache
def _evidence(noise: Noise) -> np.ndarray:
    """Mean logits [C, C] by true class (row) before noise; the background's are zero."""

    def likeness(names):
        table = [
            [
                noise.sharpness if a == b
                else noise.similar if (a, b) in _SIMILAR or (b, a) in _SIMILAR
                else 0.0
                for b in names
            ]
            for a in names
        ]  # fmt: skip
        return np.array(table)

    shapes, colours = likeness(graph.SHAPES), likeness(graph.COLOURS)
    both = shapes[:, None, :, None] + colours[None, :, None, :]
    n = len(CLASSES) - 1
    table = np.zeros((n + 1, n + 1))
    table[1:, 1:] = both.reshape(n, n)
    return table


def find(scene: graph.Scene, rng: np.random.Generator, noise: Noise = Noise()) -> Regions:
    """Boxes and class distributions of one image, at least one region, in no telling order."""
    truth = render.true_boxes(scene)
    seen = np.flatnonzero(rng.random(len(truth)) >= noise.missed)
    if not seen.size:
        seen = rng.integers(len(truth), size=1)
    extra = min(int(rng.poisson(noise.spurious)), noise.most_spurious)

    boxes = truth[seen].astype(np.float64)
    side = boxes[:, 2:] - boxes[:, :2]
    boxes += rng.normal(0, noise.jitter, boxes.shape) * np.tile(side, 2)
    invented = [_invent(scene, truth, rng, noise) for _ in range(extra)]
    boxes = np.concatenate([boxes, np.reshape(invented, (-1, 4))])
    boxes = np.clip(boxes, 0, [scene.width, scene.height] * 2)

    objects = np.concatenate([seen, np.full(extra, -1)])
    classes = np.array([class_of(scene.objects[i]) if i >= 0 else 0 for i in objects])
    logits = _evidence(noise)[classes]
    # An invented region is mostly background, and a little like some class at random.
    logits[:, 0] += np.where(objects >= 0, 1.0, noise.sharpness * 2)
    for row in np.flatnonzero(objects < 0):
        logits[row, 1:] += 0.7 * _evidence(noise)[rng.integers(1, len(CLASSES)), 1:]
    logits += rng.normal(0, noise.logit_noise, logits.shape)
    probs = np.exp(logits - logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)

    order = rng.permutation(len(boxes))
    return Regions(boxes[order].astype(np.float32), probs[order].astype(np.float32), objects[order])


def _invent(scene, truth, rng, noise) -> np.ndarray:
    """A box that is no object: a part of one, or anywhere."""
    if rng.random() < noise.partial:
        x1, y1, x2, y2 = truth[rng.integers(len(truth))]
        w, h = (x2 - x1) * rng.uniform(0.35, 0.6), (y2 - y1) * rng.uniform(0.35, 0.6)
        x, y = x1 + rng.random() * (x2 - x1 - w), y1 + rng.random() * (y2 - y1 - h)
    else:
        w, h = rng.uniform(12, 40, 2)
        x, y = rng.random() * (scene.width - w), rng.random() * (scene.height - h)
    return np.array([x, y, x + w, y + h])


@functools.cache
def _projection(feature_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Signs [3 * _GRID**2, F] and offsets [F]; fixed by the detector, not by the data's seed."""
    rng = np.random.default_rng([1, feature_dim])
    signs = rng.integers(0, 2, (3 * _GRID * _GRID, feature_dim)) * 2 - 1
    return signs.astype(np.float32), rng.uniform(-0.5, 0.5, feature_dim).astype(np.float32)


def features(
    pictures: np.ndarray, boxes: Sequence[np.ndarray], feature_dim: int
) -> list[np.ndarray]:
    """Features of all regions of a few images in one matrix product.

    Args:
      pictures: uint8 [images, height, width, 3].
      boxes: one float32 [n, 4] for each image, xyxy in pixels.
      feature_dim: F.

    Returns:
      One float32 [n, F] for each image, about 1 in size.
    """
    counts = [len(b) for b in boxes]
    image = np.repeat(np.arange(len(boxes)), counts)[:, None, None]
    flat = np.concatenate(boxes).astype(np.float64)
    share = (np.arange(2 * _GRID) + 0.5) / (2 * _GRID)
    size = np.array(pictures.shape[1:3])
    xs = flat[:, 0, None] + share * (flat[:, 2] - flat[:, 0])[:, None]
    ys = flat[:, 1, None] + share * (flat[:, 3] - flat[:, 1])[:, None]
    xs = np.clip(xs.astype(np.int64), 0, size[1] - 1)
    ys = np.clip(ys.astype(np.int64), 0, size[0] - 1)
    samples = pictures[image, ys[:, :, None], xs[:, None, :]]  # [N, 2 * _GRID, 2 * _GRID, 3]
    cells = samples.reshape(-1, _GRID, 2, _GRID, 2, 3).sum((2, 4), dtype=np.int32)
    # Whole numbers times signs: float32 holds every partial sum exactly, so the product has the
    # same bits on every machine and however many images share it.
    signs, offsets = _projection(feature_dim)
    cells = (cells - 4 * render.BACKGROUND).reshape(len(flat), -1).astype(np.float32)
    projected = cells @ signs / np.float32(4 * 255 * 4) + offsets
    return np.split(np.maximum(projected, 0), np.cumsum(counts)[:-1])
