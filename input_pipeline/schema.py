"""The record and batch contract: what every array is called, its type, axes and padding.

Axis letters, used in all docstrings of the project:

  B batch · K texts an example · M images an example · P pairs an example · T text tokens
  R regions (row 0 is the whole image) · L packed length · D hidden · F region feature size
  C region classes · k stored top classes · V vocabulary · G gathered (masked) positions
  A answers of an example · H, W pixels of a canvas · S cells of a region, each way

A *stream batch* is a flat dict of numpy arrays with the keys of `FIELDS`; a *batch* is
`{stream name: stream batch}`. A key that a stream does not need is absent, never zeros.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from core.errors import DataError


@dataclasses.dataclass(frozen=True)
class SpecialIds:
    """Vocabulary ids of the special tokens, and the vocabulary's size."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int
    vocab_size: int


@dataclasses.dataclass(frozen=True)
class Field:
    """One array of a stream batch: its dtype ('feature' = the store's), axes and meaning."""

    dtype: str
    axes: str
    meaning: str


FIELDS: Mapping[str, Field] = {
    "text_ids": Field("int32", "B K T", "word-piece ids, padded with [PAD]"),
    "text_mask": Field("bool", "B K T", "True at real tokens, [CLS] and [SEP] included"),
    "segment_ids": Field("int32", "B K T", "0 = segment A, 1 = segment B"),
    "word_starts": Field("bool", "B K T", "True at the first piece of each word and special token"),
    "probe_kind": Field("int32", "B K T", "kind of a word that only the image tells, 0 = no such"),
    "token_region": Field("int32", "B K T", "row of `regions` that grounds a token, 0 = image"),
    "phrase_region": Field("int32", "B K T", "row of `regions` a token speaks of, 0 = unknown"),
    "regions": Field("feature", "B M R F", "appearance features, row 0 = whole image"),
    "region_scale": Field("float32", "B M R", "what int8 features are multiplied by; int8 alone"),
    "boxes": Field("float32", "B M R 4", "xyxy in pixels; row 0 is the whole image's"),
    "region_mask": Field("bool", "B M R", "True at real regions and at row 0"),
    "images": Field("uint8", "B M H W 3", "pictures, RGB, 0 beyond them; in place of `regions`"),
    "region_instance_mask": Field("bool", "B M R S S", "cells that show the region's object"),
    "image_size": Field("float32", "B M 2", "(height, width) in pixels"),
    "num_detected": Field("int32", "B M", "detected regions before truncation, row 0 excluded"),
    "region_class_ids": Field("int32", "B M R k", "classes of the stored probabilities"),
    "region_class_probs": Field("float32", "B M R k", "detector distribution, largest first"),
    "region_rest_prob": Field("float32", "B M R", "probability of all classes not stored"),
    "image_key": Field("int32", "B M", "row of the image in its region store"),
    "example_index": Field("int32", "B", "row of the example in its table"),
    "answer_ids": Field("int32", "B A", "in the answer list, padded with 0; -1 = no answers known"),
    "answer_scores": Field("float32", "B A", "their soft scores, 0 at padding"),
    "label": Field("int32", "B 1", "number of the right choice or class, -1 = unknown"),
    "target_box": Field("float32", "B 4", "box a text means, xyxy; the stream makes region_iou"),
    "object_boxes": Field("float32", "B O·4", "boxes of objects, flat; the stream finds regions"),
    "object_classes": Field("int32", "B O", "their classes; the stream makes region_label"),
    "object_masks": Field("int32", "B O·7", "cells of objects; the stream makes instance masks"),
    "candidate_boxes": Field("float32", "B O·4", "may be chosen, as may the whole image"),
    "option_boxes": Field("float32", "B O·4", "may be chosen, and nothing else"),
    "option_region": Field("int32", "B O", "row of `regions` that shows each option, 0 = none"),
    "candidate_mask": Field("bool", "B M R", "regions that may be chosen; absent: all real ones"),
    "region_iou": Field("float32", "B M R", "overlap with the box a text means, original pixels"),
    "region_label": Field("int32", "B M R", "class of its object, 0 = whole image, -1 = no object"),
    "answer_position": Field("int32", "B K", "token whose state is to give the answer ([MASK])"),
    "_weight": Field("float32", "B", "1 for an example, 0 for a row that pads the batch"),
}

# Keys with one entry a text of the example.
TEXT_KEYS = tuple(name for name, field in FIELDS.items() if field.axes.startswith("B K"))


def check_batch(batch: Mapping[str, np.ndarray], *, where: str) -> dict[str, int]:
    """Checks names, dtypes and that every axis letter has one size; returns {letter: size}.

    Raises:
      DataError: an unknown key, a wrong dtype, or two arrays that disagree on an axis.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, array in batch.items():
        if name not in FIELDS:
            raise DataError(
                f"unknown batch key {name!r}", where=where, expected=sorted(FIELDS), found=name
            )
        field = FIELDS[name]
        axes = field.axes.split()
        if array.ndim != len(axes):
            raise DataError(
                f"batch key {name!r} has the wrong rank",
                where=where,
                expected=field.axes,
                found=f"shape {array.shape}",
            )
        if field.dtype != "feature" and array.dtype != np.dtype(field.dtype):
            raise DataError(
                f"batch key {name!r} has the wrong dtype",
                where=where,
                expected=field.dtype,
                found=str(array.dtype),
            )
        for letter, size in zip(axes, array.shape, strict=True):
            expected, source = (int(letter), "") if letter.isdigit() else (size, name)
            if not letter.isdigit():
                expected, source = sizes.setdefault(letter, (size, name))
            if expected != size:
                raise DataError(
                    f"batch key {name!r} disagrees on axis {letter}",
                    where=where,
                    expected=f"{expected}" + (f" (from {source!r})" if source else ""),
                    found=f"shape {array.shape}",
                )
    if "regions" in batch:
        int8 = batch["regions"].dtype == np.int8
        if int8 != ("region_scale" in batch):
            raise DataError(
                "features and their scales disagree",
                where=where,
                expected="region_scale exactly where regions are int8",
                found=f"regions {batch['regions'].dtype}, region_scale "
                f"{'absent' if int8 else 'present'}",
            )
    return {letter: size for letter, (size, _) in sizes.items()}
