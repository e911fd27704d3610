"""Functions of a model on what is asked: padded to a few shapes, each compiled once."""

import dataclasses
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from core.errors import ConfigError
from inference.images import Image
from inference.items import Asked
from inference.layout import Batch, Layout
from input_pipeline.schema import FIELDS

BATCH_SIZES = (1, 8, 32)  # rows of a batch: what is asked together is padded to one of these
# Word pieces, and regions, of a row: padded to the first that holds the longest of the batch.
LENGTHS = (8, 16, 24, 40, 56, 80, 112, 160, 224, 320)


@dataclasses.dataclass(frozen=True, eq=False)
class Told:
    """What the model gave for an example.

    Attributes:
      value: the text.
      images: what was looked at, without its features.
      row: entries of what a function returned.
      batch: entries of the batch.
    """

    value: Any
    images: tuple[Image, ...]
    row: dict[str, Any]
    batch: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A function of a model on examples that are laid out in one way.

    Attributes:
      key: two programs of the same key are the same.
      layout: of examples.
      step: step(params, batch) → {name: arrays [B, …]}.
    """

    key: Hashable
    layout: Layout
    step: Callable[..., dict[str, Any]]


class Programs:
    """Runs functions of parameters on a device; threads may share it.

    Attributes:
      params: on the device.
      sizes: of a batch, ascending.
    """

    def __init__(
        self,
        params: PyTree,
        device: jax.Device | str | None,
        sizes: Sequence[int],
        lengths: Sequence[int] = LENGTHS,
    ):
        """Puts the parameters on the device.

        Args:
          params: of the model.
          device: see `inference.load`.
          sizes: of a batch.
          lengths: of its texts and of its lists of regions; (): those that the layout gives them.

        Raises:
          ConfigError: there is no such device, or sizes that are none.
        """
        for name, given, none in (("batch_sizes", sizes, False), ("lengths", lengths, True)):
            if not (given or none) or any(not isinstance(n, int) or n < 1 for n in given):
                raise ConfigError(
                    f"{name} are no sizes", expected="whole numbers from 1", found=given
                )
        self.sizes, self._lengths = sorted(set(sizes)), sorted(set(lengths))
        self._device = device_of(device)
        self.params = jax.device_put(params, self._device)
        self._lock, self._compiled = threading.Lock(), dict[Hashable, Callable[..., Any]]()

    def run(self, program: Program, asked: Asked) -> Iterator[Told]:
        """What a program gives for each example, in order."""
        layout = program.layout
        chunks = list(self._chunks(len(asked.examples)))
        # What is wrong in a later batch is found before any is answered; all are too large to keep.
        for at, size in chunks[1:]:
            layout.batch(asked.examples[at], size)
        for at, size in chunks:
            batch = shortened(layout.batch(asked.examples[at], size), self._lengths)
            out = self._call(program, batch)
            for i, example in enumerate(asked.examples[at]):
                yield Told(
                    asked.values[at.start + i],
                    tuple(image.outline() for image in example.images),
                    jax.tree.map(lambda array, i=i: array[i], out),
                    {name: array[i] for name, array in batch.items()},
                )

    def call(self, program: Program, batch: Batch) -> dict[str, np.ndarray]:
        """What a program gives for a batch, with its real lengths rounded up."""
        return self._call(program, shortened(batch, self._lengths))

    def _call(self, program: Program, batch: Batch) -> dict[str, np.ndarray]:
        with self._lock:
            if program.key not in self._compiled:
                self._compiled[program.key] = jax.jit(program.step)
            compiled = self._compiled[program.key]
        return jax.device_get(compiled(self.params, jax.device_put(batch, self._device)))

    def _chunks(self, count: int) -> Iterator[tuple[slice, int]]:
        """(items, rows of their batch): full batches of the largest size, and the rest padded."""
        largest = self.sizes[-1]
        for start in range(0, count, largest):
            left = min(count - start, largest)
            yield slice(start, start + left), next(size for size in self.sizes if size >= left)


def shortened(batch: Batch, lengths: Sequence[int]) -> Batch:
    """The batch without padding that all its rows have.

    Args:
      batch: stream batch, whose rows are padded at their ends.
      lengths: ascending; T and R become the first that is enough, where it is less than they are.
    """
    kept = {}
    for letter, mask in (("T", "text_mask"), ("R", "region_mask")):
        if mask not in batch:
            continue
        real = batch[mask].any(axis=(0, 1))
        longest = int(real.nonzero()[0].max(initial=0)) + 1
        kept[letter] = next((n for n in lengths if n >= longest), len(real))
    return {
        name: array[tuple(slice(kept.get(letter)) for letter in _axes(name))]
        for name, array in batch.items()
    }


def _axes(name: str) -> list[str]:
    return FIELDS[name].axes.split() if name in FIELDS else []


def device_of(device: jax.Device | str | None) -> jax.Device:
    """A device by its name: "cpu", "gpu", "tpu", or with a number, "gpu:1"; None: the first.

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
