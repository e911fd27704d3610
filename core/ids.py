"""What identifies an image in the file names and ids of data sets and feature files."""

import re


def number_of(image_id: str) -> str:
    """The last whole number in an image's id, without leading zeros; "" without one.

    "COCO_val2014_000000000042.jpg" -> "42". An extension such as ".jp2" does not count.
    """
    digits = re.findall(r"[0-9]+", re.sub(r"\.[A-Za-z]\w*$", "", image_id))
    return (digits[-1].lstrip("0") or "0") if digits else ""
