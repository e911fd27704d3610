"""One text and one image as the batch that a stream of the model's training makes of them."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

import objectives
from checkpoints import published_model
from core.errors import DataError
from inference.model import Model
from input_pipeline.regions.boxes import EDGES
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.regions.store import RegionStore
from input_pipeline.streams.plan import DrawSettings
from input_pipeline.streams.source import Source
from input_pipeline.streams.stream import Stream
from input_pipeline.texts.tables import Row, build_table
from input_pipeline.texts.tokenizer import Tokenizer
from objectives import assemble
from vl_models import loading

_NAME = "look"  # of the text in its table, for messages


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a model reads texts and images.

    Attributes:
      stream: whose layout it is, "" for that of a published file.
      options: of the stream.
      assemble: lays texts out.
    """

    stream: str
    options: ConfigDict
    assemble: assemble.Assembler


def layout(model: Model, stream: str = "") -> Layout:
    """How a model was trained to read.

    Args:
      model: whose config it is.
      stream: name of it; empty: the first that has images and trained.

    Raises:
      DataError: no such stream.
    """
    streams = model.config.get("streams", {})
    named = [name for name, block in streams.items() if block.images and block.batch_size]
    if stream and stream not in named:
        raise DataError(
            "the model was not trained on such a stream of images",
            where="--stream",
            expected=f"one of {named}" if named else "none: a published file has no streams",
            found=repr(stream),
        )
    if not named:
        return Layout("", _published(model), assemble.caption)
    name = stream or named[0]
    block = streams[name].copy_and_resolve_references()
    first = block.objectives[0]
    with block.unlocked():  # what training puts beside an example, and its batches of many
        block.update(negatives=False, distractors="", couples=0, buckets=())
    options = objectives.options.completed(first, model.config.objectives[first])
    made = objectives.of_block(first, options).assembler(ConfigDict(options))
    return Layout(name, block, made)


def _published(model: Model) -> ConfigDict:
    """Options of a stream that cuts nothing that the model has a position for."""
    text, regions = model.config.model.positions - 2, 2**10
    return ConfigDict(
        dict(
            images=True,
            objectives=("none",),
            batch_size=1,
            max_text=text,
            max_regions=regions,
            max_length=text + regions,
            order="stored",
            resize=(),
            flip="off",
            block=0,
            negatives=False,
            buckets=(),
            distractors="",
            couples=0,
            iou=next(iter(EDGES)),
        )
    )


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A text and an image, ready for a model.

    Attributes:
      batch: stream batch of one example, B = K = M = 1.
      pieces: the word pieces as they are in the batch, special tokens included.
      cut: word pieces and regions that had no room.
    """

    batch: dict[str, np.ndarray]
    pieces: Sequence[str]
    cut: tuple[int, int]


def image_row(store: RegionStore, image: str) -> int:
    """The row of an image.

    Raises:
      DataError: the store has no such image.
    """
    row = int(store.rows_of([image])[0])
    if row < 0:
        raise DataError(
            "the region store has no such image",
            where="--image",
            expected=f"one of {len(store):,} ids, such as "
            + ", ".join(repr(key) for key in store.keys[:3]),
            found=repr(image),
        )
    return row


def make(
    model: Model,
    place: Layout,
    store: RegionStore,
    image: str,
    text: str,
    *,
    second: str = "",
    task: int | None = None,
) -> Inputs:
    """Cuts a text into pieces and puts an image's regions beside it, as in training.

    Args:
      model: that is to read them.
      place: how it reads.
      store: has the regions.
      image: its id.
      text: a caption, a question, an expression.
      second: what a model of multiple choice reads behind it.
      task: number of the task, for a model with task tokens.

    Raises:
      DataError: an empty text, features of another kind, no such image, no vocabulary, a
        second part or a task that is missing or of no use.
    """
    row = image_row(store, image)
    _require_task(model.config.model.get("tasks", 0), task)
    _require_features(model, store)
    if model.pieces is None:
        raise DataError(
            "the vocabulary of the model is not known",
            expected="vocab.txt beside the published file",
            fix="name it: --vocab=FILE",
        )
    tokenizer = Tokenizer(list(model.pieces), "the checkpoint's vocabulary")
    made, rows = _rows(place.assemble, text, second, store.keys[row])
    for name, part in (("the text", text), ("--second", second)):
        if (part or name == "the text") and not tokenizer.encode_batch([part])[0].ids:
            raise DataError("a text is empty", where=name, expected="a word", found=repr(part))
    with tempfile.TemporaryDirectory() as folder:
        table = build_table(rows, tokenizer, f"{folder}/table", source=_NAME, origin="the text")
        source = Source(table, np.zeros(1, np.int64), store, store.rows_of(table.images))
        stream = Stream(
            place.stream or _NAME,
            source,
            place.options,
            made,
            tokenizer,
            DrawSettings(
                seed=0,
                batch_size=1,
                training=False,
                image_margin=model.trunk.image_margin,
                longest_text=model.config.model.positions - 2,
            ),
        )
        batch = stream.batch(0)
    if task is not None:
        batch["task_id"] = np.full(1, task, np.int32)
    return Inputs(batch, *_read(batch, tokenizer, text, second))


def _rows(
    assembler: Callable, text: str, second: str, image: str
) -> tuple[assemble.Assembler, list[Row]]:
    """The assembler for one text, and the rows of a table that it reads."""
    rows = [Row(image, text, _NAME)]
    several = hasattr(assembler, "choices")
    if several != bool(second):
        raise DataError(
            "the model reads a text with a choice" if several else "the model reads one text",
            where="--second",
            expected='what stands behind the text: --second="..."' if several else "none",
            found=repr(second),
        )
    if not several:
        return assembler, rows
    rows.append(Row(image, second, f"{_NAME}/choice", follows=True))
    return dataclasses.replace(assembler, choices=1), rows


def _read(
    batch: dict[str, np.ndarray], tokenizer: Tokenizer, text: str, second: str
) -> tuple[list[str], tuple[int, int]]:
    """The pieces of a batch, and (pieces, regions) that are not in it."""
    names = list(tokenizer.vocab)
    ids = batch["text_ids"][0, 0][batch["text_mask"][0, 0]].tolist()
    special = {getattr(tokenizer.special, name) for name in ("cls", "sep", "mask")}
    whole = sum(len(one.ids) for one in tokenizer.encode_batch([text, second]))
    kept = sum(i not in special for i in ids)
    regions = int(batch["num_detected"][0, 0] + 1 - batch["region_mask"][0, 0].sum())
    return [names[i] for i in ids], (whole - kept, regions)


def _require_task(tasks: int, task: int | None) -> None:
    """Raises DataError where a model with task tokens is given no task, or one without them is."""
    if task not in (range(tasks) if tasks else (None,)):
        raise DataError(
            "the model reads a task" if tasks else "the model has no task tokens",
            where="--task",
            expected=f"a number from 0 to {tasks - 1}" if tasks else "none",
            found=repr(task),
        )


def _require_features(model: Model, store: RegionStore) -> None:
    """Raises DataError where a store has other features than the model was trained on."""
    trained = model.data_metadata.get("feature_spec")
    if trained:
        spec = FeatureSpec.from_dict(trained, "the checkpoint's data metadata")
        spec.require_match(store.spec, "the model", "--regions")
        return
    size = published_model.feature_dim(loading.flatten(model.params))
    if size != store.spec.feature_dim:
        raise DataError(
            "features of another size",
            where="--regions",
            expected=f"{size} numbers per region, as the model reads",
            found=f"{store.spec.feature_dim} of {store.spec.detector!r}",
        )
