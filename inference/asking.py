"""How a trained model is asked: examples are laid out, padded to a few sizes, and run."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from checkpoints import published_model, sources
from core.errors import ConfigError, DataError, UserError
from evaluation import predict
from inference import abilities as known
from inference.abilities import Task
from inference.checkpoint import Checkpoint, opened
from inference.images import ImageReader
from inference.layout import Batch, Example, Layout
from inference.model import Model
from input_pipeline.regions import RegionStore, extract
from input_pipeline.regions.memory import ImageRegions
from input_pipeline.texts.rows import Row
from objectives import assemble, base
from objectives.model import DTYPES

BATCH_SIZES = (1, 8, 32)  # rows of a batch: what is asked together is padded to one of these
LONG_TEXTS = ("error", "cut")


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """What is asked, checked.

    Attributes:
      values: the texts as they were given.
      examples: of each.
      many: whether a list was given, and so a list is given back.
    """

    values: list[Any]
    examples: list[Example]
    many: bool

    def given(self, results: list[Any]) -> Any:
        """The results as the caller expects them."""
        return results if self.many else results[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Told:
    """What the model gave for an example.

    Attributes:
      value: the text.
      images: what was looked at.
      row: entries of what a step returned.
      batch: entries of the batch.
    """

    value: Any
    images: tuple[ImageRegions, ...]
    row: dict[str, Any]
    batch: dict[str, np.ndarray]


class Asker(Model):
    """A trained model on a device, and how it is asked; threads may share it."""

    def __init__(
        self,
        source: sources.Source,
        *,
        regions: RegionStore | str | None = None,
        extractor: extract.Extractor | None = None,
        device: jax.Device | str | None = None,
        dtype: str = "",
        batch_sizes: Sequence[int] = BATCH_SIZES,
        long_texts: str = "error",
    ):
        """Builds the model; what a checkpoint lacks is told when it is asked.

        Args: as `inference.load`.

        Raises:
          ConfigError: an unknown device or dtype, or sizes that are none.
          DataError: a region store with other features.
        """
        super().__init__(
            source.arrays,
            dict(source.config) or {"model": published_model.block(source)},
            pieces=source.pieces,
            answers=source.answers,
            data_metadata=source.data_metadata,
            heads=source.heads,
        )
        _check_options(dtype, batch_sizes, long_texts)
        self._place, self._step, self._device = source.place, source.step, _device(device)
        self._sizes, self._cut = sorted(set(batch_sizes)), long_texts == "cut"
        self.params = jax.device_put(self.params, self._device)
        self._failure: UserError | None = None
        try:
            self._opened = opened(source, dtype)
            self._tasks = known.tasks_of(self._opened.model)
        except UserError as error:  # its trunk and heads can be used all the same
            self._failure = error
        self._lock, self._steps = threading.Lock(), dict[Any, Callable[..., Any]]()
        self._extractor, self._store = extractor, None
        self._images = ImageReader(self._checkpoint.spec, None, extractor) if extractor else None
        if regions is not None:
            self.regions = regions

    @property
    def _checkpoint(self) -> Checkpoint:
        if self._failure is not None:
            raise self._failure
        return self._opened

    @property
    def abilities(self) -> dict[str, list[str]]:
        """{verb: streams of the run that can answer it}.

        Raises:
          UserError: the checkpoint does not say what it was trained for, or lacks a vocabulary.
        """
        self._checkpoint  # noqa: B018  # or its failure
        return {verb: [stream for stream, _ in tasks] for verb, tasks in self._tasks.items()}

    @property
    def regions(self) -> RegionStore | None:
        """The region store in which ids of images are looked up; a path or a store may be set.

        Raises:
          DataError: no such store, or one with other features than the model was trained on.
        """
        return self._store

    @regions.setter
    def regions(self, store: RegionStore | str | None) -> None:
        if store is not None and not isinstance(store, RegionStore):
            store = RegionStore.open(store)
        if store is not None:
            store.spec.require_match(self._checkpoint.spec, "the region store", self._place)
        self._store = store
        self._images = ImageReader(self._checkpoint.spec, store, self._extractor)

    def __repr__(self) -> str:
        can = "nothing but model(batch) and model.head(...)"
        if self._failure is None:
            can = ", ".join(self.abilities)
        return f"{type(self).__name__}({self._place!r}, {self.config.model.name}: {can})"

    def about(self) -> list[str]:
        """What it is and what it can be asked, in lines for people."""
        block, step = self.config.model, self._step
        lines = [
            f"{self._place}: {block.name}, {block.layers} layers, {block.hidden} wide"
            + (f", step {step:,}" if step is not None else ""),
            f"heads: {', '.join(self.heads) or 'none'}",
        ]
        if self._failure is not None:
            return [*lines, str(self._failure)]
        found = self._opened
        spec, names = found.spec, found.config.streams
        lines.append(f"vocabulary: {found.tokenizer.vocab_size:,} word pieces")
        lines.append(
            f"region features: {spec.feature_dim} numbers of {spec.detector!r}, "
            f"{spec.num_classes} classes"
        )
        if self.answers:
            lines.append(f"answers: {len(self.answers):,}, such as {list(self.answers[:5])}")
        lines.append("it can:")
        width = max(map(len, self._tasks))
        for verb, tasks in self._tasks.items():
            streams = ", ".join(
                f"{stream} (texts of {names[stream].max_text} pieces)" for stream, _ in tasks
            )
            lines.append(f"  {verb:{width}}  {streams}")
        verb = next(iter(self._tasks), "")
        if verb:
            lines.append(
                f'ask it: python -m inference {self._place} {verb} "..." --image=ID --regions=STORE'
            )
        return lines

    def _task(self, verb: str, stream: str) -> Task:
        self._checkpoint  # noqa: B018  # or its failure
        return known.choose(self._tasks, verb, stream, self._place)

    def _layout(self, stream: str, assembler: Callable[..., dict]) -> Layout:
        found = self._checkpoint
        return Layout(
            stream,
            found.config.streams[stream],
            assembler,
            found.tokenizer,
            found.spec,
            image_margin=found.model.trunk.image_margin,
            positions=found.config.model.positions,
            cut=self._cut,
        )

    def _regions_of(self, image: Any) -> ImageRegions:
        reader = self._images or ImageReader(self._checkpoint.spec)
        return reader.regions(image)

    def _asked(
        self,
        text: Any,
        image: Any,
        rows: Callable[..., tuple[Row, ...]],
        *more: Any,
        per_text: int = 1,
    ) -> Asked:
        """Checks what is asked, item by item.

        Args:
          text: one, or a list.
          image: one for all, or a list; with `per_text` other than 1 a list of so many, or a list
            of those.
          rows: rows(text, *more) → rows of its table.
          more: of a single text, else each a list or nothing.
          per_text: images of an example.

        Raises:
          UserError: what is wrong with an item, with its position in a list.
        """
        many = isinstance(text, list) or (per_text == 1 and isinstance(image, list))
        texts = text if isinstance(text, list) else [text] * (len(image) if many else 1)
        if not texts:
            raise DataError("nothing is asked", expected="a text, or a list of at least one")
        images = image if many and isinstance(image, list) else [image] * len(texts)
        columns = [_column(one, len(texts) if many else 0) for one in more]
        for name, column in [("images", images), *(("entries", column) for column in columns)]:
            if not isinstance(column, list | tuple) or len(column) != len(texts):
                raise DataError(
                    f"there are not as many {name} as texts",
                    expected=f"{len(texts)}, or one image for all; of choices, boxes and objects "
                    "one list per text",
                    found=len(column) if isinstance(column, list | tuple) else repr(column),
                )
        examples = []
        for number, (one, shown, *others) in enumerate(zip(texts, images, *columns, strict=True)):
            where = f"item {number} of {len(texts)}" if many else ""
            try:
                found = tuple(map(self._regions_of, _several(shown, per_text)))
                examples.append(Example(rows(one, *others), found, where or "the text"))
            except UserError as error:
                if not many:
                    raise
                raise DataError(f"{where}: {error}") from error
        return Asked(texts, examples, many)

    def _chunks(self, count: int) -> Iterator[tuple[slice, int]]:
        """(items, rows of their batch): full batches of the largest size, and the rest padded."""
        largest = self._sizes[-1]
        for start in range(0, count, largest):
            left = min(count - start, largest)
            yield (
                slice(start, start + left),
                next(size for size in self._sizes if size >= left),
            )

    def _run(
        self, asked: Asked, layout: Layout, key: Any, step: Callable[..., Any]
    ) -> Iterator[Told]:
        """What `step` gives for each example, in order.

        Args:
          asked: of `_asked`.
          layout: of its examples.
          key: two steps of the same key are one program.
          step: step(params, batch) → {name: arrays [B, …]}.
        """
        batches = [
            (at, layout.batch(asked.examples[at], size))
            for at, size in self._chunks(len(asked.examples))
        ]
        for at, batch in batches:
            out = self._call(key, step, batch)
            for i, example in enumerate(asked.examples[at]):
                yield Told(
                    asked.values[at.start + i],
                    example.images,
                    jax.tree.map(lambda array, i=i: array[i], out),
                    {name: array[i] for name, array in batch.items()},
                )

    def _call(self, key: Any, step: Callable[..., Any], batch: Batch) -> Any:
        with self._lock:
            if key not in self._steps:
                self._steps[key] = jax.jit(step)
            compiled = self._steps[key]
        return jax.device_get(compiled(self.params, jax.device_put(batch, self._device)))

    def _predictions(
        self, asked: Asked, stream: str, tell: Callable[[Any, base.Arrays], dict[str, Any]]
    ) -> Iterator[Told]:
        """What the first objective of a stream predicts, by the function of --mode=predict.

        Args:
          asked: of `_asked`.
          stream: of the run.
          tell: tell(logits, batch) → arrays [B, …].
        """
        model = self._checkpoint.model

        def step(params: Any, batch: Batch) -> dict[str, Any]:
            return tell(*predict.logits_of(model, params, stream, batch))

        layout = self._layout(stream, self._checkpoint.assembler(stream))
        return self._run(asked, layout, ("predict", stream), step)

    def _single(self, stream: str) -> Layout:
        """The layout of a single text on an image, as near to the stream's as there is."""
        return self._layout(stream, self._checkpoint.plain_assembler(stream))

    def _captions(self, stream: str) -> Layout:
        """The layout of a caption on an image."""
        return self._layout(stream, assemble.caption)


def _column(values: Any, count: int) -> Any:
    """A list with an entry per text, `count` of a list or 0 of a single one."""
    if not count:
        return [values]
    nothing = values is None or (isinstance(values, str | tuple | list) and not values)
    return [values] * count if nothing else values


def _several(image: Any, count: int) -> Sequence[Any]:
    """The images of an example.

    Raises:
      DataError: another number of images.
    """
    if count == 1:
        if isinstance(image, list) and len(image) == 1:
            return image
        if isinstance(image, list):
            raise DataError("too many images", expected="one image for each text", found=len(image))
        return [image]
    if not isinstance(image, list | tuple) or len(image) != count:
        raise DataError(
            "this model reads several images with a text",
            expected=f"a list of {count} images for each text",
            found=len(image) if isinstance(image, list | tuple) else "one image",
        )
    return image


def _check_options(dtype: str, batch_sizes: Sequence[int], long_texts: str) -> None:
    if dtype and dtype not in DTYPES:
        raise ConfigError("unknown dtype", expected=f"one of {sorted(DTYPES)}", found=repr(dtype))
    if not batch_sizes or any(not isinstance(n, int) or n < 1 for n in batch_sizes):
        raise ConfigError(
            "batch_sizes are no sizes", expected="whole numbers from 1", found=batch_sizes
        )
    if long_texts not in LONG_TEXTS:
        raise ConfigError(
            "unknown long_texts", expected=f"one of {LONG_TEXTS}", found=repr(long_texts)
        )


def _device(device: jax.Device | str | None) -> jax.Device:
    """A device by its name: "cpu", "gpu", "tpu", or with a number, "gpu:1".

    Raises:
      ConfigError: there is none.
    """
    if isinstance(device, jax.Device):
        return device
    if device is None:
        return jax.local_devices()[0]
    kind, _, number = device.partition(":")
    try:
        return jax.local_devices(backend=kind)[int(number or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        raise ConfigError(
            "there is no such device",
            expected=f"one of {[f'{one.platform}:{one.id}' for one in jax.local_devices()]}",
            found=repr(device),
        ) from error
