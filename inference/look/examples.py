"""Examples of a run's own data: each as the model reads it when it is evaluated or predicts."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import jax
import numpy as np

from core.errors import DataError
from inference.checkpoint import Checkpoint
from inference.images import Image, ImageReader
from inference.named import NamedImages, Pictures
from input_pipeline.datasets.reading import pictures
from input_pipeline.schema import FIELDS
from input_pipeline.streams import options, pipeline
from objectives import masking
from objectives.model import dequantised

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A text and an image of an example, as a model reads them together.

    Attributes:
      label: which of the example's texts and images; "" where it has one of each.
      batch: stream batch of one example with this text and this image alone.
      pieces: the text's word pieces, special ones included.
      image: that it is about.
    """

    label: str
    batch: Batch
    pieces: list[str]
    image: Image

    @property
    def text(self) -> str:
        """The words, without special tokens."""
        words = [one for one in self.pieces if not (one.startswith("[") and one.endswith("]"))]
        return " ".join(words).replace(" ##", "")


class Examples:
    """The examples of a split, by their ids.

    Attributes:
      stream: whose layout they have.
    """

    def __init__(self, checkpoint: Checkpoint, stream: str = "", split: str = ""):
        """Opens the data that a run was trained on.

        Args:
          checkpoint: of the run.
          stream: of the run; empty: the first with images.
          split: the data set's own name; empty: what the run evaluates.

        Raises:
          DataError: no such stream or split, or whatever is wrong with the data.
        """
        config = checkpoint.config.copy_and_resolve_references()
        with_images = [n for n, x in config.streams.items() if x.images and x.batch_size]
        if (stream or not with_images) and stream not in with_images:
            raise DataError(
                "the model was not trained on such a stream of images",
                where="--task",
                expected=f"one of {with_images}",
                found=repr(stream),
            )
        self.stream = name = stream or with_images[0]
        self._tokenizer = checkpoint.tokenizer
        self._objective = checkpoint.model.streams[name][0]
        with config.unlocked():
            config.streams[name].update(options.ALONE)
        catalog = pipeline.DataCatalog(config)
        self._stream = pipeline.build_evaluation(
            config,
            name,
            {name: checkpoint.assembler(name)},
            split=split or "eval",
            batch_size=1,
            catalog=catalog,
            image_margin=checkpoint.model.trunk.image_margin,
            longest_text=config.model.positions - 2,
        )
        data = catalog.of(name)
        shown = Pictures(pictures.open_pictures(catalog.block(name), data.prepared))
        named = NamedImages(data.store, shown)
        self._keys, self._images = data.store.keys, ImageReader(checkpoint.spec, lambda: named)
        rows = self._stream.source.rows.tolist()
        self._draws = {self._stream.text_id(row): draw for draw, row in enumerate(rows)}

    def pairs(self, text_id: str) -> list[Pair]:
        """What the model runs on an example: a pair for each choice of a question, each image.

        Args:
          text_id: the example's.

        Raises:
          DataError: the split has no such example.
        """
        if text_id not in self._draws:
            raise DataError(
                "the split has no such example",
                where="--example",
                expected=f"one of {len(self._draws):,} ids, such as "
                + ", ".join(map(repr, list(self._draws)[:3])),
                found=repr(text_id),
                fix="another split of the data set: --split=SPLIT",
            )
        batch = self._stream.batch(self._draws[text_id])
        predicts = self._objective.predicts
        wanted = (self._objective.pairs if predicts else None) or ((0, 0),)
        if predicts:
            keys = masking.row_keys(jax.random.key(0), batch["example_index"])  # nothing is random
            batch = jax.device_get(dict(self._objective.corrupt(dequantised(batch), keys)))
        return list(self._each(batch, wanted))

    def _each(self, batch: Batch, pairs: Iterable[tuple[int, int]]) -> Iterator[Pair]:
        names, pairs = self._tokenizer.pieces, list(pairs)
        texts, images = (len({pair[axis] for pair in pairs}) for axis in (0, 1))
        for text, image in pairs:
            one = _only(batch, {"K": text, "M": image})
            ids = one["text_ids"][0, 0][one["text_mask"][0, 0]].tolist()
            parts = [f"choice {text + 1}"] * (texts > 1) + [f"image {image + 1}"] * (images > 1)
            key = self._keys[int(one["image_key"][0, 0])]
            yield Pair(", ".join(parts), one, [names[i] for i in ids], self._images.read(key))


def _only(batch: Mapping[str, np.ndarray], kept: Mapping[str, int]) -> Batch:
    """The batch with one entry of the axes named, of which each keeps its place."""
    out = {}
    for name, array in batch.items():
        array = np.asarray(array)
        for axis, letter in enumerate(FIELDS[name].axes.split()):
            if letter in kept:
                array = np.take(array, [kept[letter]], axis)
        out[name] = array
    return out
