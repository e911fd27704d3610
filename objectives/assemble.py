"""How texts of a table become the token arrays of a stream batch."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from input_pipeline.schema import SpecialIds

Assembler = Callable[..., dict[str, np.ndarray]]  # (table, rows, special, max_text) → text arrays


@runtime_checkable
class TextTable(Protocol):
    """The tokenised texts of a stream; see `input_pipeline.texts.tables`."""

    def gather(
        self, rows: np.ndarray, width: int, /, *, cyclic: bool = False
    ) -> dict[str, np.ndarray]: ...
    def values_of(self, rows: np.ndarray, /) -> dict[str, np.ndarray]: ...
    def longest(self, rows: np.ndarray, /) -> int: ...
    def followers(self, rows: np.ndarray, /) -> np.ndarray: ...
    def text_id(self, row: int, /) -> str: ...


def caption(
    table: TextTable, rows: np.ndarray, special: SpecialIds, max_text: int
) -> dict[str, np.ndarray]:
    """[CLS] pieces [SEP], cut to `max_text` with [SEP] kept, one segment.

    Args:
      table: text table with `gather(rows, width)`.
      rows: int [B].

    Returns:
      text_ids, text_mask, segment_ids, word_starts and, where the table has them, probe_kind and
      phrase_region, the numbers of the objects that tokens speak of, from 1: [B, 1, T].
    """
    columns = table.gather(rows, max_text - 2)
    ids, length = columns["ids"], np.minimum(columns["lengths"], max_text - 2)
    size, slots = len(rows), np.arange(max_text)

    def frame(inner: np.ndarray, outer: int, dtype: type) -> np.ndarray:
        out: np.ndarray = np.full((size, max_text), outer, dtype)
        out[:, 1:-1] = inner
        return out

    end = slots == length[:, None] + 1
    mask = slots < length[:, None] + 2
    text = np.where(mask, frame(ids, special.pad, np.int32), special.pad)
    text[:, 0] = special.cls
    text[end] = special.sep
    starts = frame(columns["word_starts"], False, bool) & mask
    starts[:, 0] = True
    starts |= end
    out: dict[str, np.ndarray] = dict(
        text_ids=text,
        text_mask=mask,
        segment_ids=np.zeros_like(text),
        word_starts=starts,
    )
    inside = mask & ~end
    for column, key in (("probe", "probe_kind"), ("token_region", "phrase_region")):
        if column in columns:
            out[key] = np.where(inside, frame(columns[column], 0, np.int32), 0)
    return {name: array[:, None] for name, array in out.items()}


def plain(
    table: TextTable, rows: np.ndarray, special: SpecialIds, max_text: int
) -> dict[str, np.ndarray]:
    """`max_text` pieces from each row's start on through the following rows, no special tokens.

    VL-BERT's text-only corpus (released code): neither [CLS] nor [SEP], segment A.
    """
    columns = table.gather(rows, max_text, cyclic=True)
    ids = columns["ids"].astype(np.int32)
    mask = np.arange(max_text) < np.minimum(columns["lengths"], max_text)[:, None]
    starts = columns["word_starts"] & mask
    starts[:, 0] = True
    out = dict(
        text_ids=np.where(mask, ids, special.pad).astype(np.int32),
        text_mask=mask,
        segment_ids=np.zeros_like(ids),
        word_starts=starts,
    )
    return {name: array[:, None] for name, array in out.items()}
