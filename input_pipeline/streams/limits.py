"""Sizes of batches, truncation of texts and regions to them, and transforms of boxes."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

import numpy as np
from ml_collections import ConfigDict

from core import checks
from core.errors import DataError
from input_pipeline.regions.boxes import EDGES
from input_pipeline.regions.source import ORDERS
from input_pipeline.schema import FIELDS

FLIPS = ("off", "boxes", "boxes_and_words", "boxes_and_pieces")
# What the options of a stream must be.
CHECKS = dict(
    images=checks.flag(),
    objectives=checks.each(checks.text(empty=False)),
    batch_size=checks.whole(0),
    max_text=checks.whole(3),
    max_regions=checks.whole(2),
    max_length=checks.whole(4),
    order=checks.one_of(*ORDERS),
    resize=dataclasses.replace(
        checks.each(checks.whole(1), lengths=(0, 2)), expected="() or (short, long) in pixels"
    ),
    flip=checks.one_of(*FLIPS),
    block=checks.whole(0),
    negatives=checks.flag(),
    buckets=dataclasses.replace(
        checks.each(checks.each(checks.whole(1), lengths=(3,))),
        expected="triples ((max_text, max_regions, max_length), ...) of whole numbers, or ()",
    ),
    distractors=checks.text(),
    couples=dataclasses.replace(
        checks.whole(0),
        expected="a whole number of at least 2, or 0 for four-way retrieval",
        holds=lambda value: checks.whole(0).holds(value) and value != 1,
    ),
    iou=checks.one_of(*EDGES),
    canvases=dataclasses.replace(
        checks.each(checks.each(checks.whole(1), lengths=(2,))),
        expected="pairs ((height, width), ...) in pixels, or ()",
    ),
    task=checks.whole(0),
    rate=checks.number(above=0),
    score=checks.pattern(r"(evals/[^/]+/.+)?", "evals/<name>/<metric>, or empty"),
)
PIECE_KEYS = (
    "text_ids",
    "segment_ids",
    "word_starts",
    "probe_kind",
    "token_region",
    "phrase_region",
)


def joint_lengths(
    text: np.ndarray, regions: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lengths after VL-BERT's joint truncation (its `truncate` loop, in closed form).

    The loop drops, while text + regions > limit, one region if there are more regions than
    words, else one word. So the shorter side stays whole if it has no more than half of the
    limit, and else both come down to half; of an odd limit the regions get the larger part,
    because on a tie a word goes first.

    Args:
      text: int [...] tokens, [CLS] and [SEP] included.
      regions: int [...], whole image included.
      limit: max_length, [END] not counted; at least 4, so that 2 tokens and 1 region stay.

    Returns:
      (text, regions), each at most as before.
    """
    kept = np.minimum(regions, np.maximum(limit - text, (limit + 1) // 2))
    return np.minimum(text, limit - kept), kept


def cut_text(arrays: dict[str, np.ndarray], lengths: np.ndarray, pad: int) -> None:
    """Cuts texts in place, keeping the last token ([SEP]): words before it go.

    Args:
      arrays: text arrays [B, K, T].
      lengths: int [B], limit of tokens of a text of the example; at least 2.
      pad: id of [PAD].
    """
    mask = arrays["text_mask"]
    before = mask.sum(-1)
    after = np.minimum(before, lengths[:, None])
    for b, k in np.argwhere(after < before):  # few rows: long captions
        old, new = before[b, k], after[b, k]
        for key in PIECE_KEYS:
            if key in arrays:
                row = arrays[key][b, k]
                row[new - 1] = row[old - 1]
                row[new:old] = pad if key == "text_ids" else 0
        mask[b, k, new:old] = False


def narrow(arrays: dict[str, np.ndarray], width: int) -> None:
    """Trims the padding of texts to T = `width`, in place; no text is longer."""
    for key, array in arrays.items():
        if FIELDS[key].axes.endswith(" T") and array.shape[-1] > width:
            arrays[key] = np.ascontiguousarray(array[..., :width])


class Bucket(NamedTuple):
    """Sizes of a batch: T, R, and the limit of an example's tokens and regions together."""

    max_text: int
    max_regions: int
    max_length: int


def sizes(options: ConfigDict) -> tuple[Bucket, ...]:
    """A stream's buckets from small to large and, last, the stream's own sizes.

    A bucket has no more than its stream, and one that then has as much text and regions is none:
    the config's buckets hold for narrower streams, too.
    """
    own = Bucket(options.max_text, options.max_regions, options.max_length)
    narrowed = (Bucket(*map(min, bucket, own)) for bucket in options.buckets)
    return *(one for one in narrowed if one[:2] != own[:2]), own


def shape_of(batch: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """(T, R) of a stream batch; R is 0 without images."""
    regions = batch["region_mask"].shape[-1] if "region_mask" in batch else 0
    return batch["text_ids"].shape[-1], regions


def smallest(buckets: tuple[Bucket, ...], tokens: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """int64 [B]: index of the first bucket that examples fit, by what they keep.

    Args:
      buckets: from small to large; everything fits the last.
      tokens: int [B] of the longest text.
      regions: int [B] of the image with most, whole image included.
    """
    fits = [
        (tokens <= bucket.max_text)
        & (regions <= bucket.max_regions)
        & (tokens + regions <= bucket.max_length)
        for bucket in buckets
    ]
    return np.argmax(fits, axis=0)


def resized(
    height: np.ndarray, width: np.ndarray, short: int, long: int
) -> tuple[np.ndarray, np.ndarray]:
    """Image sizes scaled to a short side, or less where the long side would pass its limit.

    Integer arithmetic, rounded down, as the original's int(): 1920x816 becomes 1000x425.

    Args:
      height: [...] pixels.
      width: [...] pixels.
      short: target of the shorter side.
      long: limit of the longer side.

    Returns:
      (height, width) int64 [...].
    """
    height, width = np.asarray(height, np.int64), np.asarray(width, np.int64)
    low, high = np.minimum(height, width), np.maximum(height, width)
    new_low = np.where(short * high > long * low, long * low // high, short)
    new_low = np.maximum(new_low, 1)
    new_high = new_low * high // low
    return np.where(height <= width, new_low, new_high), np.where(
        height <= width, new_high, new_low
    )


def transform_boxes(
    batch: dict[str, np.ndarray],
    resize: tuple[int, int] | None,
    flip: np.ndarray | None,
    margin: int,
) -> None:
    """Resizes, flips and clamps boxes in place (VL-BERT's transforms, in its order).

    Features are not touched: the original mirrors the geometry of features that were computed on
    the picture as it was.

    Args:
      batch: boxes [B, M, R, 4], region_mask, image_size [B, M, 2].
      resize: (short, long) target, or None.
      flip: bool [B], examples to mirror, or None.
      margin: pixels by which the box of the whole image ends before the image does: 1 where
        coordinates are those of pixels, 0 where they are those of their edges.
    """
    boxes, size = batch["boxes"], batch["image_size"]
    if resize:
        new = np.stack(resized(size[..., 0], size[..., 1], *resize), -1).astype(np.float32)
        ratio = new / size  # per axis
        boxes *= ratio[:, :, None, [1, 0, 1, 0]]
        size[...] = new
    right, bottom = size[..., 1, None] - margin, size[..., 0, None] - margin
    if flip is not None and flip.any():
        x1, x2 = boxes[..., 0].copy(), boxes[..., 2].copy()
        mirrored = flip[:, None, None]
        boxes[..., 0] = np.where(mirrored, right - x2, x1)
        boxes[..., 2] = np.where(mirrored, right - x1, x2)
    np.clip(boxes[..., 0::2], 0, right[..., None], out=boxes[..., 0::2])
    np.clip(boxes[..., 1::2], 0, bottom[..., None], out=boxes[..., 1::2])
    boxes[~batch["region_mask"]] = 0


def swap_words(
    arrays: dict[str, np.ndarray],
    flip: np.ndarray,
    left: int,
    right: int,
    *,
    inside_words: bool = False,
) -> None:
    """Exchanges the words "left" and "right" in place in the texts of mirrored examples.

    Args:
      arrays: text_ids and word_starts [B, K, T].
      flip: bool [B].
      left: id of the piece "left".
      right: id of the piece "right".
      inside_words: whether these pieces are exchanged in longer words, too, as VL-BERT does:
        "leftover" becomes "rightover".
    """
    ids, starts = arrays["text_ids"], arrays["word_starts"]
    swapped = np.broadcast_to(flip[:, None, None], ids.shape)
    if not inside_words:  # in "leftover" other pieces follow
        swapped = swapped & starts
        swapped[..., :-1] &= starts[..., 1:] | ~arrays["text_mask"][..., 1:]
    was_left, was_right = swapped & (ids == left), swapped & (ids == right)
    ids[was_left] = right
    ids[was_right] = left


def check_options(name: str, options: ConfigDict) -> None:
    """Checks the options of a stream, alone and together.

    Raises:
      ConfigError: an option that is not what it must be.
      DataError: buckets that do not rise.
    """
    where = f"config.streams.{name}"
    checks.require(where, options, CHECKS)
    _check_buckets(where, options)


def check_without_images(where: str, options: ConfigDict, other_image: bool) -> None:
    """Raises DataError where a stream of plain text is to do what needs images.

    Args:
      where: the stream's block, for the message.
      options: of the stream.
      other_image: whether examples are to get another's image.
    """
    if options.negatives or options.distractors or options.flip != "off" or other_image:
        raise DataError(
            "plain text has no images",
            where=where,
            expected="negatives=False, no distractors, flip='off' and no visual gain",
            found=f"negatives={options.negatives}, distractors={options.distractors!r}, "
            f"flip={options.flip!r}",
        )
    if options.buckets:
        raise DataError(
            "plain text has no padding that buckets could save",
            where=f"{where}.buckets",
            expected="(): every row goes on into the lines that follow until it is full",
            found=tuple(options.buckets),
        )


def _check_buckets(where: str, options: ConfigDict) -> None:
    names = "max_text", "max_regions", "max_length"

    def refuse(what: str, expected: str, found: object) -> NoReturn:
        raise DataError(
            what,
            where=f"{where}.buckets",
            expected=expected,
            found=found,
            fix="list ((max_text, max_regions, max_length), ...) from small to large, or () for "
            "one size",
        )

    for bucket in options.buckets:
        text, regions, both = bucket
        if text < 3 or regions < 2 or both < max(4, text):
            refuse(
                "a bucket is too small",
                "max_text >= 3, max_regions >= 2, max_length >= 4 and >= max_text",
                tuple(bucket),
            )
    steps = [tuple(bucket) for bucket in options.buckets]
    own = (options.max_text, options.max_regions, options.max_length)
    for small, large in itertools.pairwise([*steps, own]):
        if large is not own and any(a > b for a, b in zip(small, large, strict=True)):
            refuse(
                "a bucket is larger than the one after it",
                f"at most {large} in each of {names}",
                small,
            )
        if small[:2] == large[:2]:
            refuse(
                "a bucket saves nothing in text or regions",
                f"less than {large[:2]} in max_text or max_regions",
                small,
            )
