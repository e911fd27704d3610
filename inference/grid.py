"""Texts and images that are scored each with each, as batches of a few sizes."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from core.errors import DataError
from evaluation.pair_scores import IMAGE_KEYS, TEXT_KEYS

_TEXTS = 8  # of a batch; with its images they make as many rows as their product

Row = Mapping[str, np.ndarray]  # a batch of one text and one image


def check(rows: Sequence[Row], max_length: int) -> None:
    """Raises DataError where the longest text does not fit beside the regions of any image."""
    text = max(int(row["text_mask"].sum()) for row in rows)
    regions = max(int(row["region_mask"].sum()) for row in rows)
    if text + regions > max_length:
        raise DataError(
            "texts are too long to be scored with every image",
            expected=f"at most {max_length} word pieces and regions of any text and image together",
            found=f"a text of {text} pieces, an image of {regions} regions, special ones included",
        )


def parts(
    rows: Sequence[Row], texts: int, images: int, sizes: Sequence[int]
) -> Iterator[tuple[tuple[slice, slice], dict[str, np.ndarray]]]:
    """The grid in parts, padded by repeating the last text and image of each.

    Args:
      rows: row i has text i and image i, of the first of them.
      texts, images: how many there are.
      sizes: of a batch, ascending.

    Yields:
      Its place in the grid, and a batch of one example [1, K, …] and [1, M, …].
    """
    heights = [size for size in sizes if size <= _TEXTS] or [_TEXTS]
    for columns in _spans(images, sizes[-1]):
        right = _stacked(rows, columns, sizes, IMAGE_KEYS)
        for lines in _spans(texts, heights[-1]):
            yield (lines, columns), _stacked(rows, lines, heights, TEXT_KEYS) | right


def _spans(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _stacked(
    rows: Sequence[Row], span: slice, sizes: Sequence[int], keys: Sequence[str]
) -> dict[str, np.ndarray]:
    count = span.stop - span.start
    size = next(size for size in sizes if size >= count)
    at = np.minimum(np.arange(span.start, span.start + size), span.stop - 1).tolist()
    return {
        key: np.concatenate([rows[i][key] for i in at], axis=1) for key in keys if key in rows[0]
    }
