"""What a page shows, as JSON values: tokens, picture, attention, statistics, places of states.

Attention is kept as one byte per number, each row scaled by its largest: a value is off by at most
1/510 of its row's largest.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.report import static_page, thumbnails
from inference.look import attention
from input_pipeline.doctor.sheet import names_by_column
from input_pipeline.regions.memory import ImageRegions
from input_pipeline.regions.spec import FeatureSpec

SIDE = 800  # longer side of the picture in pixels
LEVELS = 255  # of a byte
SPECIAL = {"[CLS]", "[SEP]", "[MASK]", "[END]", "[TASK]"}


@dataclasses.dataclass(frozen=True)
class Regions:
    """The regions of an image as they are shown.

    Attributes:
      size: (height, width) of the image in pixels.
      boxes: [n, 4] xyxy, in pixels of the image; without the whole image.
      labels: what each is, "" where the store does not say.
      scores: probability of that, None where the store does not say.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    labels: Sequence[str]
    scores: Sequence[float | None]


def regions_of(
    image: ImageRegions,
    spec: FeatureSpec,
    names: Sequence[str] = (),
    batch: Mapping[str, np.ndarray] | None = None,
) -> Regions:
    """The regions of an image as they are shown.

    Args:
      image: has them.
      spec: of it.
      names: of the classes, see `names_by_column`.
      batch: a stream batch of the image alone, whose regions and their order are taken; None: all
        of the image's.

    Raises:
      DataError: another number of names than classes.
    """
    size = (image.height, image.width)
    if batch is None:
        boxes, ids, probs = (image.record.get(key) for key in ("boxes", "class_ids", "probs"))
    else:
        real = batch["region_mask"][0, 0].nonzero()[0][1:]
        keys = ("boxes", "region_class_ids", "region_class_probs")
        boxes, ids, probs = (batch[key][0, 0][real] if key in batch else None for key in keys)
        scale = np.divide(size, batch["image_size"][0, 0])  # of images that a stream resizes
        boxes = boxes * scale[[1, 0, 1, 0]]
    labels, scores = [""] * len(boxes), [None] * len(boxes)
    if ids is not None:
        background = spec.background_class
        columns = names_by_column(names, spec.num_classes, background)
        best = (ids != background).argmax(-1) if background is not None else 0 * ids[:, 0]
        labels = [columns[one[b]] for one, b in zip(ids, best, strict=True)]
        scores = [round(float(one[b]), 4) for one, b in zip(probs, best, strict=True)]
    return Regions(size, np.array(boxes, np.float64), labels, scores)


def page(
    title: str,
    lines: Iterable[str],
    notes: Iterable[str],
    regions: Regions,
    picture: bytes | None = None,
    pieces: Sequence[str] = (),
    example: attention.Example | None = None,
) -> dict[str, Any]:
    """The content of a page.

    Args:
      title: of the page.
      lines: what it shows, a line each.
      notes: what is to be known of it, such as words that were cut.
      regions: of the image.
      picture: bytes of its file; None: boxes are drawn on an empty canvas.
      pieces: word pieces, special ones included; none without a model.
      example: what the model does; None without one.

    Raises:
      DataError: a picture that cannot be read.
    """
    notes, uri = list(notes), ""
    if picture is None:
        notes.append("There is no picture: boxes are drawn on an empty canvas.")
    else:
        uri, problem = thumbnails.data_uri(picture, regions.size, SIDE)
        notes += [problem] * bool(problem)
    tokens = list(_tokens(pieces, regions, example))
    height, width = regions.size
    return dict(
        title=title,
        lines=list(lines),
        notes=notes,
        picture=dict(uri=uri, width=width, height=height),
        tokens=tokens,
        attention=_attention(example, tokens) if example else None,
    )


def _tokens(
    pieces: Sequence[str], regions: Regions, example: attention.Example | None
) -> Iterable[dict[str, Any]]:
    pieces = list(pieces)
    if example and example.words > len(pieces):  # the task's
        pieces.insert(1, "[TASK]")
    for piece in pieces:
        joined = piece.startswith("##") and len(piece) > 2
        yield dict(
            kind="word",
            text=piece[2:] if joined else piece,
            joined=joined,
            special=piece in SPECIAL,
        )
    height, width = regions.size
    yield dict(kind="region", text="whole image", box=[0, 0, width, height], special=True)
    for number, (box, label, score) in enumerate(
        zip(regions.boxes.tolist(), regions.labels, regions.scores, strict=True), start=1
    ):
        yield dict(
            kind="region",
            text=f"{number} {label}".strip(),
            box=[round(x, 1) for x in box],
            score=score,
            special=False,
        )
    if example and example.size > example.words + example.regions:
        yield dict(kind="word", text="[END]", joined=False, special=True)


def quantised(probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows as bytes: (uint8 of the same shape, float32 [...] largest of each row)."""
    largest = probs.max(-1).astype(np.float32)
    share = probs / np.where(largest > 0, largest, 1)[..., None]
    return np.rint(share * LEVELS).astype(np.uint8), largest


def _attention(example: attention.Example, tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    packed = [quantised(one.probs) for one in example.maps] + [quantised(example.rollout)]
    scales = np.concatenate([largest.ravel() for _, largest in packed]).astype("<f4")
    values = b"".join(array.tobytes() for array, _ in packed)
    return dict(
        words=example.words,
        regions=example.regions,
        levels=list(example.levels),
        maps=[
            dict(
                level=one.level,
                kind=one.kind,
                label=one.label,
                queries=one.queries,
                keys=one.keys,
                heads=len(one.probs),
            )
            for one in example.maps
        ],
        # All scales as float32, then all bytes: maps in order, then the rollout of each level.
        scales=len(scales),
        # With runs and letters' frequencies alone: attention repeats nothing longer.
        blob=static_page.packed(scales.tobytes() + values, zlib.Z_RLE),
        statistics=statistics(example, tokens),
        stages=[
            [
                dict(
                    tokens=panel.tokens,
                    explained=round(panel.explained, 3),
                    places=panel.places.round(3).astype(float).round(3).tolist(),
                )
                for panel in stage
            ]
            for stage in example.stages
        ],
    )


def statistics(
    example: attention.Example, tokens: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Numbers of each head, by map: [{"title", "note", "rows": one list or None per map}]."""
    every = range(example.size)
    words = [i for i in every if tokens[i]["kind"] == "word"]
    regions = [i for i in every if tokens[i]["kind"] == "region"]
    special = [i for i in every if tokens[i]["special"]]

    def share(queries: Sequence[int], keys: Sequence[int]) -> list[np.ndarray | None]:
        return [attention.mass(one, queries, keys) for one in example.maps]

    found = (
        (
            "entropy",
            "0: each token looks at one alone; 1: at all alike",
            [attention.entropy(one.probs) for one in example.maps],
        ),
        (
            "cross-modal share of words",
            "attention of words that goes to regions",
            share(words, regions),
        ),
        (
            "cross-modal share of regions",
            "attention of regions that goes to words",
            share(regions, words),
        ),
        (
            "share of marks",
            "attention of all that goes to [CLS], [SEP], [END] and the whole image",
            share(every, special),
        ),
    )
    return [
        dict(
            title=title,
            note=note,
            rows=[None if row is None else [round(float(x), 4) for x in row] for row in rows],
        )
        for title, note, rows in found
    ]
