"""One text and one image as the batch that a stream of the model's training makes of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from checkpoints import published_model
from core.errors import DataError
from inference.images import Image, ImageReader
from inference.layout import Example, Layout
from inference.named import NamedImages
from inference.tasks import TaskModel
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.regions.store import RegionStore
from input_pipeline.streams.options import OPTIONS
from input_pipeline.texts.rows import Row
from input_pipeline.texts.tokenizer import Tokenizer
from objectives import assemble
from vl_models import loading

_NAME = "look"  # of the text in its table, for messages


@dataclasses.dataclass(frozen=True, eq=False)
class Reader:
    """How a model reads texts and images.

    Attributes:
      stream: whose layout it is, "" for that of a published file.
      layout: lays texts and images out.
      spec: of the regions.
      images: finds regions.
    """

    stream: str
    layout: Layout
    spec: FeatureSpec
    images: ImageReader


def reader(model: TaskModel, stream: str = "", store: RegionStore | None = None) -> Reader:
    """How a model was trained to read.

    Args:
      model: that is to read.
      stream: of its run; empty: the first that has images and trained.
      store: has the regions; None: that of the run's data set.

    Raises:
      DataError: no such stream; features of another kind; no vocabulary; no store of a file that
        has no data set.
    """
    streams = model.config.get("streams", {})
    named = [name for name, block in streams.items() if block.images and block.batch_size]
    if stream and stream not in named:
        raise DataError(
            "the model was not trained on such a stream of images",
            where="--task",
            expected=f"one of {named}" if named else "none: a published file has no streams",
            found=repr(stream),
        )
    if not named:
        return _of_published(model, store)
    if store is not None:
        model.regions = store
    name = stream or named[0]
    layout = model.layout(name, cut=True)
    return Reader(name, layout, model.checkpoint.spec, model.reader(name))


def _of_published(model: TaskModel, store: RegionStore | None) -> Reader:
    """Of a file of which the model alone is known: nothing is cut that it has a position for."""
    if store is None:
        raise DataError(
            "a published file has no data set of its own",
            where="--regions",
            expected="a region store",
            found="none",
            fix="--regions=STORE (python -m input_pipeline.importers writes one)",
        )
    if model.pieces is None:
        raise DataError(
            "the vocabulary of the model is not known",
            expected="vocab.txt beside the published file",
            fix="name it: --vocab=FILE",
        )
    size = published_model.feature_dim(loading.flatten(model.params))
    if size != store.spec.feature_dim:
        raise DataError(
            "features of another size",
            where="--regions",
            expected=f"{size} numbers per region, as the model reads",
            found=f"{store.spec.feature_dim} of {store.spec.detector!r}",
        )
    positions = model.config.model.positions
    text, regions = positions - 2, 2**10
    block = ConfigDict(
        OPTIONS
        | dict(max_text=text, max_regions=regions, max_length=text + regions, order="stored")
    )
    layout = Layout(
        _NAME,
        block,
        assemble.caption,
        Tokenizer(list(model.pieces), "the checkpoint's vocabulary"),
        store.spec,
        image_margin=model.trunk.image_margin,
        positions=positions,
        cut=True,
        task_id=model.task_id,
    )
    return Reader("", layout, store.spec, ImageReader(store.spec, lambda: NamedImages(store)))


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A text and an image, ready for a model.

    Attributes:
      batch: stream batch of one example, B = K = M = 1.
      image: that was read.
      pieces: the word pieces as they are in the batch, special tokens included.
      cut: word pieces and regions that had no room.
    """

    batch: dict[str, np.ndarray]
    image: Image
    pieces: Sequence[str]
    cut: tuple[int, int]


def make(
    place: Reader,
    image: Any,
    text: str,
    *,
    second: str = "",
) -> Inputs:
    """Cuts a text into pieces and puts an image's regions beside it, as in training.

    Args:
      place: how the model reads.
      image: see `ImageReader.read`.
      text: a caption, a question, an expression.
      second: what a model of multiple choice reads behind it.

    Raises:
      DataError: an empty text, no such image, a second part that is missing or of no use.
    """
    tokenizer = place.layout.tokenizer
    for name, part in (("the text", text), ("--second", second)):
        if (part or name == "the text") and not tokenizer.encode_batch([part])[0].ids:
            raise DataError("a text is empty", where=name, expected="a word", found=repr(part))
    layout, rows = _rows(place.layout, text, second)
    read = place.images.read(image)
    batch = layout.batch([Example(rows, (read,), "the text")], 1)
    return Inputs(batch, read, *_read(batch, tokenizer, text, second))


def _rows(layout: Layout, text: str, second: str) -> tuple[Layout, tuple[Row, ...]]:
    """The layout for one text, and the rows of a table that it reads."""
    several = hasattr(layout.assemble, "choices")
    if several != bool(second):
        raise DataError(
            "the model reads a text with a choice" if several else "the model reads one text",
            where="--second",
            expected='what stands behind the text: --second="..."' if several else "none",
            found=repr(second),
        )
    first = Row("", text, _NAME)
    if not several:
        return layout, (first,)
    return layout.with_choices(1), (first, Row("", second, f"{_NAME}/choice", follows=True))


def _read(
    batch: dict[str, np.ndarray], tokenizer: Tokenizer, text: str, second: str
) -> tuple[list[str], tuple[int, int]]:
    """The pieces of a batch, and (pieces, regions) that are not in it."""
    names = tokenizer.pieces
    ids = batch["text_ids"][0, 0][batch["text_mask"][0, 0]].tolist()
    special = {getattr(tokenizer.special, name) for name in ("cls", "sep", "mask")}
    whole = sum(len(one.ids) for one in tokenizer.encode_batch([text, second]))
    kept = sum(i not in special for i in ids)
    regions = int(batch["num_detected"][0, 0] + 1 - batch["region_mask"][0, 0].sum())
    return [names[i] for i in ids], (whole - kept, regions)
