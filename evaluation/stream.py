"""A split as evaluators and predictions read it: every example once, in order."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from input_pipeline.datasets.reading.pictures import Lookup
from input_pipeline.datasets.reading.prepared import Prepared
from input_pipeline.datasets.records.table import Records, RecordTable
from input_pipeline.regions.store import RegionStore
from input_pipeline.streams import pipeline
from input_pipeline.streams.stream import Stream

HostBatch = dict[str, np.ndarray]
Place = Callable[[Mapping[str, np.ndarray]], dict[str, jax.Array]]  # onto the devices


def no_pictures(image_ids: Iterable[str]) -> dict[str, bytes]:
    """The `Lookup` of a data set without pictures."""
    del image_ids
    return {}


def process_shard() -> tuple[int, int]:
    """(index, count) of this process among those of the job: its share of every batch."""
    return jax.process_index(), jax.process_count()


class EvaluationStream:
    """Batches of a split, this process's share of each, and what is known of its examples.

    Attributes:
      split: the data set's own name of it.
      dataset: name of the data set.
      record_kind: which of the data set's kinds of records these are; "" where it has one.
      special: ids of the special tokens.
      fingerprint: digest of data, vocabulary and the options that change a batch's content.
      num_examples: of the split.
      steps_per_epoch: batches that hold every example once.
      records: of the split; None where the data set has none.
      answers: the answer list, empty where the data set has none.
      output_names: names of predicted numbers: answers, or labels, or ().
      kinds: {kind of marked words: the vocabulary ids of its words}, in the order of their numbers
        in `probe_kind`; a word of several pieces has None.
      pictures: pictures(image ids) -> {image id: bytes of its file}.
    """

    def __init__(
        self,
        stream: Stream,
        data_config: ConfigDict,
        prepared: Prepared,
        split: str,
        pictures: Lookup = no_pictures,
    ):
        """Wraps a stream of `pipeline.build_evaluation`.

        Args:
          stream: brings each example once.
          data_config: the `data` block that it was opened from.
          prepared: the data set.
          split: the data set's own name of what the stream brings.
          pictures: of the data set's images, for a report.
        """
        self._stream, self._threads = stream, data_config.threads
        self._prefetch = data_config.prefetch
        self.split, self.dataset = split, data_config.dataset
        self.record_kind: str = data_config.get("records", "")
        self.special, self.fingerprint = stream.special, stream.fingerprint
        self.num_examples, self.steps_per_epoch = stream.num_examples, stream.steps_per_epoch
        self.records = _records(prepared, split, data_config.dir)
        self.answers = tuple(prepared.answers.labels) if prepared.answers else ()
        self.output_names = self.answers or tuple(prepared.labels)
        vocab = stream.tokenizer.vocab
        self._pieces = list(vocab)
        self.kinds = {k: tuple(map(vocab.get, words)) for k, words in prepared.kinds.items()}
        self.pictures = pictures

    @property
    def store(self) -> RegionStore:
        """The regions of the images.

        Raises:
          ValueError: the stream is of plain text.
        """
        if self._stream.store is None:
            raise ValueError(f"stream {self._stream.name!r} is of plain text: it has no regions")
        return self._stream.store

    def text_id(self, example_index: int) -> str:
        """Name of an example, by its `example_index` in a batch."""
        return self._stream.text_id(example_index)

    def words(self, text_ids: Iterable[int]) -> str:
        """A text from its word pieces, without special tokens."""
        special = {self.special.pad, self.special.cls, self.special.sep}
        found = [self._pieces[i] for i in text_ids if i not in special]
        return " ".join(found).replace(" ##", "")

    def batches(self, shard: tuple[int, int] | None = None) -> Iterator[HostBatch]:
        """Yields all batches in order; the last one is padded with rows of weight 0.

        Args:
          shard: (index, count) of the share to read; None: this process's, (0, 1): everything.
        """
        name = self._stream.name
        for batch in pipeline.iterate(
            {name: self._stream},
            shard=shard or process_shard(),
            threads=self._threads,
            prefetch=self._prefetch,
            steps=self.steps_per_epoch,
        ):
            yield batch[name]

    def pick(self, draws: Iterable[int]) -> Iterator[HostBatch]:
        """Yields this process's share of some batches, by their numbers."""
        for draw in draws:
            yield self._stream.batch(draw, process_shard())


def _records(prepared: Prepared, split: str, folder: str) -> Records | None:
    records = prepared.records
    if records is None:
        return None
    return RecordTable(lambda: records(split), folder, split, lambda: prepared.fingerprint(split))
