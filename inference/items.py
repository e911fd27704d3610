"""What is asked, one thing or a list, checked item by item."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from core.errors import DataError, UserError
from inference.images import Image
from inference.layout import Example
from input_pipeline.texts.rows import Row


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """What is asked, checked.

    Attributes:
      values: the texts as they were given.
      examples: of each.
      many: whether a list was given, and so a list is given back.
    """

    values: list[Any]
    examples: list[Example]
    many: bool

    def given(self, results: list[Any]) -> Any:
        """The results as the caller expects them."""
        return results if self.many else results[0]


def gather(
    text: Any,
    image: Any,
    more: Sequence[Any],
    rows: Callable[..., tuple[Row, ...]],
    read: Callable[[Any], Image],
    per_text: int = 1,
) -> Asked:
    """Checks what is asked.

    Args:
      text: one, or a list.
      image: one for all, or a list; with `per_text` other than 1 a list of so many, or a list of
        those.
      more: further arguments, each of a single text, else a list or nothing.
      rows: rows(text, *more) → rows of its table.
      read: read(image) → its regions.
      per_text: images of an example.

    Raises:
      UserError: what is wrong with an item, with its position in a list.
    """
    many = isinstance(text, list) or (per_text == 1 and isinstance(image, list))
    texts = text if isinstance(text, list) else [text] * (len(image) if many else 1)
    if not texts:
        raise DataError("nothing is asked", expected="a text, or a list of at least one")
    images = image if many and isinstance(image, list) else [image] * len(texts)
    columns = [_column(one, len(texts) if many else 0) for one in more]
    for name, column in [("images", images), *(("entries", column) for column in columns)]:
        if not isinstance(column, list | tuple) or len(column) != len(texts):
            raise DataError(
                f"there are not as many {name} as texts",
                expected=f"{len(texts)}, or one image for all; of choices, boxes and objects "
                "one list per text",
                found=len(column) if isinstance(column, list | tuple) else repr(column),
            )
    examples = []
    for number, (one, shown, *others) in enumerate(zip(texts, images, *columns, strict=True)):
        where = f"item {number} of {len(texts)}" if many else ""
        try:
            found = tuple(map(read, _several(shown, per_text)))
            examples.append(Example(rows(one, *others), found, where or "the text"))
        except UserError as error:
            if not many:
                raise
            raise DataError(f"{where}: {error}") from error
    return Asked(texts, examples, many)


def _column(values: Any, count: int) -> Any:
    """A list with an entry per text, `count` of a list or 0 of a single one."""
    if not count:
        return [values]
    nothing = values is None or (isinstance(values, str | tuple | list) and not values)
    return [values] * count if nothing else values


def _several(image: Any, count: int) -> Sequence[Any]:
    """The images of an example.

    Raises:
      DataError: another number of images.
    """
    if count == 1:
        if isinstance(image, list) and len(image) == 1:
            return image
        if isinstance(image, list):
            raise DataError("too many images", expected="one image for each text", found=len(image))
        return [image]
    if not isinstance(image, list | tuple) or len(image) != count:
        raise DataError(
            "this model reads several images with a text",
            expected=f"a list of {count} images for each text",
            found=len(image) if isinstance(image, list | tuple) else "one image",
        )
    return image
