"""Whether the columns of a table fit each other, beyond the hash that each of them has."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from core.errors import DataError
from input_pipeline.texts.table_columns import COLUMNS, OPTIONAL, VALUE, VALUE_ENDS

PER_ROW = ("image_index", "follows", "second", "text_id_ends")
NEEDED = set(COLUMNS) - {*OPTIONAL, "foreign"}


def check_columns(columns: Mapping[str, Any], broken: Callable[..., DataError]) -> None:
    """Checks that all columns are there and point into each other; those of pieces by length alone.

    Args:
      columns: arrays, and `Column`s of what stays in its file.
      broken: broken(file, expected, found) makes the error.

    Raises:
      DataError: they do not.
    """
    if missing := sorted(NEEDED - set(columns)):
        raise broken("meta.json", f"the columns {sorted(NEEDED)}", f"none of {missing}")
    rows, images = len(columns["source"]), len(columns["image_ends"])
    if not rows:
        raise broken("source.bin", "at least one text", "none")
    lengths = {"offsets": rows + 1, **dict.fromkeys(PER_ROW, rows)}
    lengths |= dict.fromkeys(("word_starts", "probe", "mentions"), len(columns["ids"]))
    values = [name.removeprefix(VALUE) for name in columns if name.startswith(VALUE)]
    lengths |= {VALUE_ENDS + name: rows for name in values}
    for name, length in lengths.items():
        if name in columns and len(columns[name]) != length:
            raise broken(f"{name}.bin", f"{length} entries", len(columns[name]))
    ends = {"offsets": "ids", "image_ends": "images"}
    for name, of in {**ends, **{VALUE_ENDS + name: VALUE + name for name in values}}.items():
        found = np.concatenate([[0], columns[name]])
        is_whole = found[-1] == len(columns[of]) and (name != "offsets" or found[1] == 0)
        if (np.diff(found) < 0).any() or not is_whole:
            raise broken(f"{name}.bin", f"from 0 to {len(columns[of])}, never falling", found[-1])
    for name, below in {"image_index": images, "more_images": images, "foreign": rows}.items():
        found = columns.get(name, np.zeros(0, np.int32))
        if len(found) % rows:
            raise broken(f"{name}.bin", f"as many for each of {rows} texts", len(found))
        if len(found) and not (found.min() >= -1 and found.max() < below):
            raise broken(f"{name}.bin", f"-1 <= number < {below}", int(found.max()))
