"""What identifies an image in the file names and ids of data sets and feature files."""

import os
import re

# Suffixes of pictures; other dots belong to a name.
PICTURES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
COCO_DIGITS = 12  # COCO's file names end in the image's number, in so many digits


def number_of(image_id: str) -> str:
    """The last whole number in an image's id, without leading zeros; "" without one.

    "COCO_val2014_000000000042.jpg" -> "42". An extension such as ".jp2" does not count.
    """
    digits = re.findall(r"[0-9]+", re.sub(r"\.[A-Za-z]\w*$", "", image_id))
    return (digits[-1].lstrip("0") or "0") if digits else ""


def without_suffix(name: str) -> str:
    """A file name without a picture's suffix."""
    found, suffix = os.path.splitext(name)
    return found if suffix.lower() in PICTURES else name


def coco_digits(name: str) -> str:
    """The 12 digits that a COCO file name without suffix ends in; "" where there are none."""
    head, digits = name[:-COCO_DIGITS], name[-COCO_DIGITS:]
    padded = len(digits) == COCO_DIGITS and digits.isascii() and digits.isdigit()
    return digits if padded and (not head or head.endswith(("_", "/"))) else ""


def split_namespace(name: str) -> tuple[str, str]:
    """("coco", "139") of the name over data sets "coco:139"; ("", id) of an id alone."""
    space, _, image_id = name.partition(":")
    # Without a regular expression: millions of ids are taken apart.
    if image_id and space.isascii() and space.islower() and space.isidentifier():
        return space, image_id
    return "", name


def identity(image_id: str) -> str:
    """What is equal for all ways in which an image's id is written.

    A picture's suffix does not count, nor do leading zeros of a number; a COCO file name is its
    number, in whatever folder: "139", "000000000139" and "val2014/COCO_val2014_000000000139.jpg"
    are one image. Everything else counts: "train/7" is not "val/7", nor "train-7" "val-7".
    """
    if image_id.isdecimal() and image_id.isascii():
        return image_id.lstrip("0") or "0"
    name = without_suffix(image_id)
    digits = coco_digits(name) or name
    return (digits.lstrip("0") or "0") if digits.isascii() and digits.isdigit() else name


def endings(image_id: str) -> list[str]:
    """Identities of the id and of what is left of it without its first folders.

    "a/b/7.jpg" -> ["a/b/7", "b/7", "7"].
    """
    parts = image_id.split("/")
    return [identity("/".join(parts[i:])) for i in range(len(parts))]
