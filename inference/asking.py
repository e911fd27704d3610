"""A trained model that can be asked: what it reads, who answers, how examples are laid out."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax

from checkpoints import published_model, sources
from core.errors import ConfigError, UserError
from inference import abilities as known
from inference import items
from inference.abilities import Task
from inference.checkpoint import Checkpoint, opened
from inference.images import ImageReader
from inference.layout import Layout
from inference.model import Model
from inference.named import NamedImages, OwnImages, Pictures
from inference.programs import BATCH_SIZES, LENGTHS, Programs
from inference.published import check_heads
from input_pipeline.regions import RegionStore, extract
from input_pipeline.texts.rows import Row
from objectives import assemble
from objectives.model import DTYPES
from vl_models.published.names import RULES

LONG_TEXTS = ("error", "cut")


class Asker(Model):
    """A trained model on a device, and how it is asked; threads may share it."""

    def __init__(
        self,
        source: sources.Source,
        *,
        regions: RegionStore | str | None = None,
        pictures: str = "",
        extractor: extract.Extractor | None = None,
        task_id: int | None = None,
        device: jax.Device | str | None = None,
        dtype: str = "",
        batch_sizes: Sequence[int] = BATCH_SIZES,
        lengths: Sequence[int] = LENGTHS,
        long_texts: str = "error",
    ):
        """Builds the model; what a checkpoint lacks is told when it is asked.

        Args: as `inference.load`.

        Raises:
          ConfigError: an unknown device or dtype, or sizes that are none.
          DataError: a region store or an extractor with other features, no folder of pictures.
        """
        super().__init__(
            source.arrays,
            dict(source.config) or {"model": published_model.block(source)},
            pieces=source.pieces,
            answers=source.answers,
            data_metadata=source.data_metadata,
            heads=source.heads,
        )
        if dtype and dtype not in DTYPES:
            raise ConfigError(
                "unknown dtype", expected=f"one of {sorted(DTYPES)}", found=repr(dtype)
            )
        if long_texts not in LONG_TEXTS:
            raise ConfigError(
                "unknown long_texts", expected=f"one of {LONG_TEXTS}", found=repr(long_texts)
            )
        self._place, self._step, self._cut = source.place, source.step, long_texts == "cut"
        self._task_id = task_id
        if task_id is not None:
            self.task_id  # noqa: B018  # or why it is wrong
        self._programs = Programs(self.params, device, batch_sizes, lengths)
        self.params = self._programs.params
        self._failure: UserError | None = None
        try:
            self._opened = opened(source, dtype)
            if source.kind in RULES:
                check_heads(self._opened.model, source.heads, source.place)
            self._tasks = known.tasks_of(self._opened.model)
        except UserError as error:  # its trunk and heads can be used all the same
            self._failure = error
        self._layouts = dict[Hashable, Layout]()
        self._pictures = Pictures.of_folder(pictures) if pictures else None
        self._extractor, self._named = extractor, None
        if self._failure is None:
            found = self._opened
            self._own = OwnImages(found.config, found.spec, found.place)
            self.reader("")  # or why the extractor does not fit
        if regions is not None:
            self.regions = regions

    @property
    def checkpoint(self) -> Checkpoint:
        """What it was trained as.

        Raises:
          UserError: the checkpoint does not say what it was trained for, or lacks a vocabulary.
        """
        if self._failure is not None:
            raise self._failure
        return self._opened

    @property
    def abilities(self) -> dict[str, list[str]]:
        """{verb: streams of the run that can answer it}.

        Raises:
          UserError: as of `checkpoint`.
        """
        self.checkpoint  # noqa: B018  # or its failure
        return {verb: [stream for stream, _ in tasks] for verb, tasks in self._tasks.items()}

    @property
    def task_id(self) -> int | None:
        """Number of the task that it is asked to do; None without task tokens.

        Raises:
          ConfigError: it has task tokens and no number was given, or it has none.
        """
        tasks = self.config.model.get("tasks", 0)
        if self._task_id not in (range(tasks) if tasks else (None,)):
            raise ConfigError(
                "the model reads a task" if tasks else "the model has no task tokens",
                where="task_id",
                expected=f"a number from 0 to {tasks - 1}" if tasks else "none",
                found=repr(self._task_id),
                fix="load(place, task_id=N), on the command line --task_id=N" if tasks else "",
            )
        return self._task_id

    @property
    def regions(self) -> RegionStore | None:
        """The region store in which ids of images are looked up; a path or a store may be set.

        None: those of the data sets that the run was trained on.

        Raises:
          DataError: no such store, or one with other features than the model was trained on.
        """
        return self._named.store if self._named else None

    @regions.setter
    def regions(self, store: RegionStore | str | None) -> None:
        self._named = None
        if store is not None:
            self._named = NamedImages.of_store(store, self.checkpoint.spec, self._pictures)

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
        return [*lines, *known.about(self._opened, self._tasks, self.answers or ())]

    def layout(
        self, stream: str, assembler: assemble.Assembler | None = None, *, cut: bool | None = None
    ) -> Layout:
        """How texts and images are laid out.

        Args:
          stream: of the run.
          assembler: of its texts; None: the stream's own.
          cut: whether texts that are too long are cut; None: as the model was loaded.
        """
        found = self.checkpoint
        assembler, cut = assembler or found.assembler(stream), self._cut if cut is None else cut
        key = (stream, assembler, cut)
        if key not in self._layouts:
            self._layouts[key] = Layout(
                stream,
                found.config.streams[stream],
                assembler,
                found.tokenizer,
                found.spec,
                image_margin=found.model.trunk.image_margin,
                positions=found.config.model.positions,
                cut=cut,
                task_id=self._task_of(stream),
            )
        return self._layouts[key]

    def _task_of(self, stream: str) -> int | None:
        """Number of the task that a stream's texts are read as: the one given, or its own."""
        own = self.config.streams[stream].get("task", 0)
        return own if own and self._task_id is None else self.task_id

    def reader(self, stream: str) -> ImageReader:
        """Finds the regions of images.

        Args:
          stream: of the run, in whose data set ids are looked up where no store is named.
        """

        def named() -> NamedImages:
            return self._named or self._own_images(stream)

        return ImageReader(self.checkpoint.spec, named, self._extractor)

    def _own_images(self, stream: str) -> NamedImages:
        found = self._own.of(stream)
        return NamedImages(found.store, self._pictures) if self._pictures else found

    def _task(self, verb: str, stream: str) -> Task:
        self.checkpoint  # noqa: B018  # or its failure
        return known.choose(self._tasks, verb, stream, self._place)

    def _asked(
        self,
        stream: str,
        text: Any,
        image: Any,
        rows: Callable[..., tuple[Row, ...]],
        *more: Any,
        per_text: int = 1,
    ) -> items.Asked:
        """Checks what a stream is asked, see `items.gather`."""
        return items.gather(text, image, more, rows, self.reader(stream).read, per_text)

    def _single(self, stream: str) -> Layout:
        """The layout of a single text on an image, as near to the stream's as there is."""
        return self.layout(stream, self.checkpoint.plain_assembler(stream))

    def _captions(self, stream: str) -> Layout:
        """The layout of a caption on an image."""
        return self.layout(stream, assemble.caption)
