"""What a model attends to, by the tokens of one example: maps, rollout, statistics, 2-d states.

The tokens of an example are its words, its regions and, in VL-BERT, [END]; S of them, in this
order. All functions are of numpy arrays.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vl_models.trunk import Trunk

Span = tuple[int, int]  # first token, one past the last


@dataclasses.dataclass(frozen=True)
class Map:
    """The attention of one layer, or of one direction of a co-attention.

    Attributes:
      level: number of the level it belongs to, see `Example`.
      kind: "self" of one stream; of two "text", "image", "text_to_image" (words look at regions)
        and "image_to_text".
      label: for people, such as "text layer 3".
      queries, keys: tokens that look, and that are looked at.
      probs: float32 [heads, queries, keys]; each query's sum to 1.
    """

    level: int
    kind: str
    label: str
    queries: Span
    keys: Span
    probs: np.ndarray


@dataclasses.dataclass(frozen=True)
class Panel:
    """Two-dimensional places of some tokens' states.

    Attributes:
      tokens: which.
      places: float32 [n, 2], within -1 … 1.
      explained: share of the states' variance that the two axes hold.
    """

    tokens: Span
    places: np.ndarray
    explained: float


@dataclasses.dataclass(frozen=True)
class Example:
    """One example as a model sees it.

    A level is one step up: of one stream, a layer; of two, the layers of both and the co-attention
    before them, as far as there are. Words and regions of two streams climb at their own pace.

    Attributes:
      words, regions: how many tokens are words (special ones included) and regions (row 0, the
        whole image, included); VL-BERT's [END] is one more.
      levels: names of the levels, from below.
      maps: in the order in which they run.
      rollout: float32 [levels, S, S], see `rollout`.
      stages: of the input and after each level, one panel, or one of the words and one of the
        regions; see `panels`.
    """

    words: int
    regions: int
    levels: Sequence[str]
    maps: Sequence[Map]
    rollout: np.ndarray
    stages: Sequence[Sequence[Panel]]

    @property
    def size(self) -> int:
        """S."""
        return self.rollout.shape[-1]


def example_of(trunk: Trunk, out: Mapping[str, Any], row: Mapping[str, np.ndarray]) -> Example:
    """What a trunk returned for one example.

    Args:
      trunk: of the model.
      out: its outputs for this example alone, with "attention" and "hidden".
      row: `text_mask` [T] and `region_mask` [R] of the example.
    """
    text, image = (np.flatnonzero(row[name]) for name in ("text_mask", "region_mask"))
    if isinstance(out["attention"], Mapping):
        return _of_two_streams(trunk, out, len(text), len(image))
    if trunk.packs:
        places = np.arange(len(text) + len(image) + 1)
    else:
        places = np.concatenate([text, len(row["text_mask"]) + image])
    size = len(places)
    maps = [
        Map(number, "self", f"layer {number + 1}", (0, size), (0, size), _cut(probs, places))
        for number, probs in enumerate(out["attention"])
    ]
    hidden = panels([states[0, places] for states in out["hidden"]], (0, size))
    return Example(
        words=len(text),
        regions=len(image),
        levels=[one.label for one in maps],
        maps=maps,
        rollout=rollout(maps, size),
        stages=[(panel,) for panel in hidden],
    )


def _cut(probs: np.ndarray, rows: np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
    """[1, heads, Q, K] → [heads, queries, keys] of the real places."""
    return np.asarray(probs[0][:, rows][:, :, rows if columns is None else columns], np.float32)


def _of_two_streams(trunk: Any, out: Mapping[str, Any], words: int, regions: int) -> Example:
    attention, hidden = out["attention"], out["hidden"]
    words += bool(trunk.tasks)  # the task's token stands behind [CLS], and is always real
    text, image = np.arange(words), np.arange(regions)
    spans = dict(text=(0, words), image=(words, words + regions))
    maps: list[Map] = []
    levels, heights = [], [(0, 0)]  # (text, image) layers below each level's upper end
    ends = [(trunk.text_layers, trunk.image_layers)]
    bounds = [(0, 0), *zip(trunk.text_at, trunk.image_at, strict=True), *ends]
    for segment, (below, above) in enumerate(itertools.pairwise(bounds)):
        here = [range(a, b) for a, b in zip(below, above, strict=True)]
        for step in range(max(map(len, here))):
            level = len(levels)
            if step == 0 and 0 < segment <= len(attention["connection"]):
                name = f"connection {segment}"
                to_image, to_text = attention["connection"][segment - 1]
                maps += [
                    Map(level, "text_to_image", f"{name}, words look at regions", spans["text"],
                        spans["image"], _cut(to_image, text, image)),
                    Map(level, "image_to_text", f"{name}, regions look at words", spans["image"],
                        spans["text"], _cut(to_text, image, text)),
                ]  # fmt: skip
            done = []
            for stream, numbers, rows in zip(spans, here, (text, image), strict=True):
                if step < len(numbers):
                    number, span = numbers[step], spans[stream]
                    probs = _cut(attention[stream][number], rows)
                    maps.append(
                        Map(level, stream, f"{stream} layer {number + 1}", span, span, probs)
                    )
                    done.append(maps[-1].label)
            levels.append(", ".join(done))
            heights.append(tuple(min(b, a + step + 1) for a, b in zip(below, above, strict=True)))
    found = {
        name: panels([states[0, : span[1] - span[0]] for states in hidden[name]], span)
        for name, span in spans.items()
    }
    return Example(
        words=words,
        regions=regions,
        levels=levels,
        maps=maps,
        rollout=rollout(maps, words + regions),
        stages=[(found["text"][t], found["image"][i]) for t, i in heights],
    )


def rollout(maps: Sequence[Map], size: int) -> np.ndarray:
    """How much each token's state holds of each input token, attention taken as the flow.

    Attention rollout (Abnar and Zuidema, ACL 2020): each map passes on half of what its queries
    had and half of what they attend to, heads averaged; all maps are multiplied in their order.
    The layers of two streams, and their co-attention, are maps on a part of the tokens; what both
    directions of a co-attention read is what was there before it.

    Args:
      maps: in the order in which they run.
      size: S.

    Returns:
      float32 [levels, S, S]: after each level; rows sum to 1.
    """
    flow, out = np.eye(size), []
    for _, found in itertools.groupby(maps, key=lambda one: one.level):
        by_step = itertools.groupby(found, key=lambda one: "_to_" in one.kind)
        for _, together in by_step:
            step = np.eye(size)
            for one in together:
                (start, stop), (first, last) = one.queries, one.keys
                step[start:stop] *= 0.5
                step[start:stop, first:last] += 0.5 * one.probs.mean(0)
            flow = step @ flow
        out.append(flow)
    return np.array(out, np.float32)


def entropy(probs: np.ndarray) -> np.ndarray:
    """Mean entropy of heads over their queries, as a share of the largest possible: [heads].

    0: each query looks at one key alone; 1: at all alike. 0 where there is one key.
    """
    if probs.shape[-1] < 2:
        return np.zeros(len(probs))
    logs = np.log(np.where(probs > 0, probs, 1))
    return -(probs * logs).sum(-1).mean(-1) / np.log(probs.shape[-1])


def mass(one: Map, queries: Sequence[int], keys: Sequence[int]) -> np.ndarray | None:
    """Mean share of attention of some tokens that goes to others: [heads].

    None where the map has none of the queries.
    """
    rows = [token - one.queries[0] for token in queries if one.queries[0] <= token < one.queries[1]]
    columns = [token - one.keys[0] for token in keys if one.keys[0] <= token < one.keys[1]]
    if not rows:
        return None
    return one.probs[:, rows][:, :, columns].sum(-1).mean(-1)


def panels(states: Sequence[np.ndarray], tokens: Span) -> list[Panel]:
    """The two main axes (PCA) of states at each stage, each turned to lie as the one before.

    Args:
      states: [n, D] per stage.
      tokens: n of them.
    """
    out: list[Panel] = []
    for one in states:
        centred = np.asarray(one, np.float64) - one.mean(0, dtype=np.float64)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        places = np.zeros((len(one), 2))
        kept = min(2, len(s))
        places[:, :kept] = u[:, :kept] * s[:kept]
        total = (s**2).sum()
        explained = float((s[:kept] ** 2).sum() / total) if total else 1.0
        if out:  # axes have no direction of their own: the turn that moves tokens least
            a, _, b = np.linalg.svd(places.T @ out[-1].places)
            places = places @ (a @ b)
        radius = np.abs(places).max(initial=0)
        out.append(Panel(tokens, (places / (radius or 1)).astype(np.float32), explained))
    return out
