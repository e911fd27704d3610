"""What is asked becomes batches, by the same stream that feeds training and evaluation."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from core.errors import DataError
from input_pipeline.regions.memory import ImageRegions, MemoryRegions
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.streams.options import ALONE
from input_pipeline.streams.plan import DrawSettings
from input_pipeline.streams.reading import Assemble
from input_pipeline.streams.source import Source
from input_pipeline.streams.stream import Stream
from input_pipeline.texts.rows import Row
from input_pipeline.texts.tables import TextTable
from input_pipeline.texts.tokenizer import Tokenizer

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One thing that is asked.

    Attributes:
      rows: its row of a text table, and those that follow it.
      images: its images, in order.
      where: names it in messages.
    """

    rows: tuple[Row, ...]
    images: tuple[ImageRegions, ...]
    where: str = ""


class Layout:
    """Lays out examples as a stream of the checkpoint does.

    Attributes:
      assemble: makes the text arrays of examples.
      tokenizer: of the checkpoint's vocabulary.
      max_text, max_regions, max_length: of a row of a batch.
    """

    def __init__(
        self,
        name: str,
        block: ConfigDict,
        assemble: Assemble,
        tokenizer: Tokenizer,
        spec: FeatureSpec,
        *,
        image_margin: int,
        positions: int,
        cut: bool,
        task_id: int | None = None,
    ):
        """Plans nothing yet.

        Args:
          name: of the stream.
          block: its block of the config.
          assemble: makes the text arrays of examples.
          tokenizer: of the checkpoint's vocabulary.
          spec: of the features that the model reads.
          image_margin: of the trunk.
          positions: of the model.
          cut: whether texts that are too long are cut as in training, instead of refused.
          task_id: number of the task, of a model with task tokens.
        """
        options = block.copy_and_resolve_references()
        options.update(ALONE)
        self._name, self._options, self.assemble = name, options, assemble
        self.tokenizer, self._spec, self._cut = tokenizer, spec, cut
        self._task_id = task_id
        self._settings = DrawSettings(
            0, 1, training=False, image_margin=image_margin, longest_text=positions - 2
        )
        self.max_text, self.max_regions = options.max_text, options.max_regions
        self.max_length = options.max_length

    def with_choices(self, count: int) -> "Layout":
        """The same for so many choices of an example; of a layout of choices."""
        other = copy.copy(self)
        other.assemble = dataclasses.replace(self.assemble, choices=count)
        return other

    def batch(self, examples: Sequence[Example], size: int) -> Batch:
        """A stream batch of `size` rows, those after the examples of weight 0.

        Raises:
          DataError: an empty text, one that is too long, images that do not fit what is asked.
        """
        images = [image for example in examples for image in example.images]
        for example in examples:
            for row in example.rows:
                if not row.text.strip():
                    raise DataError("a text is empty", where=example.where, expected="a word")
        table = TextTable.of_rows(_numbered(examples), self.tokenizer)
        table.check_vocabulary(self.tokenizer.vocab_size)
        rows = np.flatnonzero(table.examples())
        regions = MemoryRegions(self._spec_of(images), images)
        source = Source(table, rows, regions, np.array(list(map(int, table.images))))
        settings = dataclasses.replace(self._settings, batch_size=size)
        stream = Stream(self._name, source, self._options, self.assemble, self.tokenizer, settings)
        batch = stream.batch(0)
        if not self._cut:
            self._check_whole(examples, table, rows, batch)
        if self._task_id is not None:
            batch["task_id"] = np.full(size, self._task_id, np.int32)
        return batch

    def _spec_of(self, images: Sequence[ImageRegions]) -> FeatureSpec:
        """Without distributions where an image has none."""
        if not self._spec.num_classes or all("probs" in one.record for one in images):
            return self._spec
        if self._options.order == "confidence":
            raise DataError(
                "this model reads the regions of which the detector is surest first, and an image "
                "has no class distributions",
                where=next(one.key for one in images if "probs" not in one.record),
                expected=f"class_probs [n, {self._spec.num_classes}] beside its features",
                found="none",
            )
        return dataclasses.replace(self._spec, num_classes=0, background_class=None)

    def _check_whole(
        self,
        examples: Sequence[Example],
        table: TextTable,
        rows: np.ndarray,
        batch: Mapping[str, np.ndarray],
    ) -> None:
        """Raises DataError where a text was cut."""
        room = 8 + 2 * table.longest(np.arange(len(table)))  # of any layout of two texts
        whole = self.assemble(table, rows, self.tokenizer.special, max(room, self.max_text))
        needed = whole["text_mask"].sum(-1).max(-1)
        kept = batch["text_mask"][: len(rows)].sum(-1).max(-1)
        for example, wanted, left in zip(examples, needed.tolist(), kept.tolist(), strict=True):
            if left < wanted:
                raise DataError(
                    "a text is too long for this model",
                    where=example.where,
                    expected=f"at most {left} word pieces, special tokens included, beside the "
                    "regions of its image",
                    found=f"{wanted} of {example.rows[0].text!r}",
                    fix="shorten it, or load(place, long_texts='cut') cuts it as training does (on "
                    "the command line --long_texts=cut)",
                )


def _numbered(examples: Sequence[Example]) -> list[Row]:
    """The rows, with the numbers of their images for ids."""
    found, first = [], 0
    for example in examples:
        names = [str(first + i) for i in range(len(example.images))]
        first += len(names)
        for row in example.rows:
            found.append(
                dataclasses.replace(
                    row,
                    image_id=names[0],
                    more_images=tuple(names[1:]),
                    text_id=example.where or row.text_id,
                )
            )
    return found
