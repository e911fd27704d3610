"""Region features from pictures, with any model: the protocol that a model's adapter fills.

An adapter is a class outside the core install, numpy in and numpy out. A detector's regions, the
cells of a convolutional grid and the patches of a vision transformer are the same to it: boxes
with a feature each. The layout `pictures` runs it over folders of pictures into a region store:

  python -m input_pipeline.importers pictures val2017 --extractor visual_genome \
      --out STORE --ids number
  python -m input_pipeline.importers pictures val2017 --extractor my_module:MyDetector ...

`input_pipeline.regions.extractors` finds them by name; `scripts/extract_efficientnet.py` is a
worked example of a class of one's own.
"""

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from core.errors import DataError, ForeignError

# Batches of pictures that are read ahead, so that those of one canvas can be put together.
READ_AHEAD = 8


@dataclasses.dataclass(frozen=True)
class Regions:
    """Regions of a picture of H x W pixels.

    Attributes:
      boxes: [n, 4] xyxy in pixels of the picture as it was handed over, n >= 1.
      features: [n, F].
      class_probs: [n, C] class distributions, rows sum to 1; None exactly if num_classes is 0.
      global_feature: [F] of the whole picture; None exactly if the adapter says "mean".
      attribute_probs: [n, A] of each attribute; None exactly if the adapter has no attributes.
    """

    boxes: np.ndarray
    features: np.ndarray
    class_probs: np.ndarray | None = None
    global_feature: np.ndarray | None = None
    attribute_probs: np.ndarray | None = None


class Extractor(Protocol):
    """A model. It is made once per process, without arguments but those of --extractor_options.

    Attributes:
      name: of model, weights and preprocessing, for the feature spec. Features of different names
        are never mixed, so change it with anything that changes the features.
      feature_dim: F.
      num_classes: C, background included; 0 without class distributions.
      background_class: column of class_probs that is the background, None without one.
      global_feature: "stored" if it gives a feature of the whole picture, else "mean": the mean of
        the regions' features is taken.

    May be absent:
      class_names: of the C classes, in the order of class_probs.
      attribute_names: of A attributes; with them each region has `attribute_probs`.
      most_workers: processes that may have it at once: 1 for what fills a device by itself.
      batch_size, batch, canvas: pictures in batches, see `BatchExtractor`.
    """

    name: str
    feature_dim: int
    num_classes: int
    background_class: int | None
    global_feature: str

    def __call__(self, picture: np.ndarray) -> Regions:
        """The regions of one picture.

        Args:
          picture: uint8 [H, W, 3], RGB, upright.

        Raises:
          DataError: this picture has no regions; --on_bad skip leaves it out. Any other exception
            ends the run.
        """


class BatchExtractor(Extractor, Protocol):
    """A model that takes several pictures at a time.

    Attributes:
      batch_size: most pictures of a call.
    """

    batch_size: int

    def canvas(self, height: int, width: int) -> Hashable:
        """What pictures of a size go together by: those of one canvas are given in one call."""

    def batch(self, pictures: Sequence[np.ndarray]) -> Sequence[Regions | DataError]:
        """The regions of pictures of one canvas, or what `__call__` would raise for each.

        They must be those that `__call__` gives: which pictures share a batch changes nothing.
        """


def grid_boxes(rows: int, columns: int, height: int, width: int) -> np.ndarray:
    """Boxes of the cells of a grid that covers a picture, row by row.

    For a model that resizes or squashes its input, cells are of the picture all the same; patches
    of a model that pads it are not, and need boxes of their own.

    Args:
      rows: cells from top to bottom.
      columns: cells from left to right.
      height: of the picture in pixels.
      width: of the picture in pixels.

    Returns:
      float32 [rows * columns, 4] xyxy in pixels.
    """
    y, x = np.linspace(0, height, rows + 1), np.linspace(0, width, columns + 1)
    top, left = np.meshgrid(y[:-1], x[:-1], indexing="ij")
    bottom, right = np.meshgrid(y[1:], x[1:], indexing="ij")
    return np.stack([left, top, right, bottom], -1).reshape(-1, 4).astype(np.float32)


def regions_of(extractor: Extractor, picture: np.ndarray, where: str) -> Regions:
    """What an extractor finds in a picture, checked against its attributes.

    Args:
      extractor: of `load`.
      picture: uint8 [H, W, 3], RGB, upright.
      where: for messages.

    Raises:
      DataError: the extractor's, of this picture.
      ForeignError: it fails, or gives something else than it declares. A mistake in the adapter and
        none of the picture's: no DataError, which --on_bad skip would pass over.
    """
    found = _called(extractor, extractor, picture, where)
    _check(extractor, found, where)
    return found


def _called(extractor: Extractor, function: Callable, argument: Any, where: str) -> Any:
    try:
        return function(argument)
    except (DataError, ForeignError):
        raise
    except Exception as error:
        raise ForeignError(f"extractor {extractor.name!r} fails at {where}: {error!r}") from error


Decoded = tuple[str, np.ndarray | DataError]  # where it is from, and the picture or what is wrong


def in_batches(
    extractor: BatchExtractor, pictures: Iterable[Callable[[], Decoded]]
) -> Iterator[tuple[str, Regions | DataError]]:
    """What an extractor finds in many pictures, in their order.

    Those of one canvas are given to it together, as far as READ_AHEAD batches hold them; the next
    ones are decoded in threads meanwhile.

    Args:
      extractor: of `load`.
      pictures: functions that read one picture each.

    Yields:
      (where, regions or what is wrong with the picture).

    Raises:
      ForeignError: see `regions_of`.
    """
    calls = iter(pictures)
    with concurrent.futures.ThreadPoolExecutor() as threads:

        def ahead() -> list[concurrent.futures.Future[Decoded]]:
            some = itertools.islice(calls, READ_AHEAD * extractor.batch_size)
            return [threads.submit(call) for call in some]

        window = ahead()
        while window:
            later = ahead()
            yield from _window(extractor, [future.result() for future in window])
            window = later


def _window(
    extractor: BatchExtractor, pictures: Sequence[Decoded]
) -> list[tuple[str, Regions | DataError]]:
    """`in_batches` of pictures that are in memory."""
    canvases: dict[Hashable, list[int]] = {}
    for index, (where, picture) in enumerate(pictures):
        if not isinstance(picture, DataError):
            size = picture.shape[:2]
            key = _called(extractor, lambda size: extractor.canvas(*size), size, where)
            canvases.setdefault(key, []).append(index)
    found: list[Any] = [picture for _, picture in pictures]
    for members in canvases.values():
        for start in range(0, len(members), extractor.batch_size):
            some = members[start : start + extractor.batch_size]
            places = ", ".join(pictures[index][0] for index in some)
            batch = [pictures[index][1] for index in some]
            results = _called(extractor, extractor.batch, batch, places)
            if len(results) != len(some):
                raise ForeignError(
                    f"extractor {extractor.name!r} gives {len(results)} results for {len(some)} "
                    f"pictures\n  where: {places}"
                )
            for index, result in zip(some, results, strict=True):
                if not isinstance(result, DataError):
                    _check(extractor, result, pictures[index][0])
                found[index] = result
    return [(where, result) for (where, _), result in zip(pictures, found, strict=True)]


def _check(extractor: Extractor, found: Regions, where: str) -> None:
    if not isinstance(found, Regions):
        raise ForeignError(
            f"extractor {extractor.name!r} gives no Regions but {type(found)} at {where}"
        )
    n = len(found.features)
    attributes = len(getattr(extractor, "attribute_names", ()))
    classes, stored = extractor.num_classes > 0, extractor.global_feature == "stored"
    shapes = {
        "boxes": (n, 4),
        "features": (n, extractor.feature_dim),
        "class_probs": (n, extractor.num_classes) if classes else None,
        "global_feature": (extractor.feature_dim,) if stored else None,
        "attribute_probs": (n, attributes) if attributes else None,
    }
    for field, expected in shapes.items():
        value = getattr(found, field)
        shape = None if value is None else np.shape(value)
        if shape != expected:
            raise ForeignError(
                f"{field} of extractor {extractor.name!r} have another shape than it declares\n"
                f"  where: {where}\n  expected: {expected}\n  found: {shape}"
            )
