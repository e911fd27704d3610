"""The rows of a table of texts, before they are tokenised."""

import dataclasses
from collections.abc import Mapping, Sequence

EMPTY = "no text"  # reason of a Skipped


@dataclasses.dataclass(frozen=True)
class Row:
    """One text.

    Attributes:
      image_id: image the text belongs to, None for plain text.
      text: as written.
      text_id: unique name, for messages and predictions.
      probe: (start, end, kind), characters of words that only the image determines; kinds are
        numbers from 0, see `Prepared.kinds`.
      mentions: (start, end, n), characters that speak of object n of the image, from 0, whose boxes
        are `values["object_boxes"]`.
      more_images: images beside `image_id`; every row of a table has as many.
      second: character at which its second part starts, the answer after a question; 0: one part.
      follows: whether it belongs to the example of a row before it, as the choices of a question
        do, and is none itself.
      source: number of the corpus in a mixture.
      foreign: names of texts that are false of the image: of other images, or rows that follow.
      values: training targets of the row, {key of the batch: numbers}; every example of
        a table has the same keys, the lengths may differ.
    """

    image_id: str | None
    text: str
    text_id: str
    probe: tuple[tuple[int, int, int], ...] = ()
    mentions: tuple[tuple[int, int, int], ...] = ()
    more_images: tuple[str, ...] = ()
    second: int = 0
    follows: bool = False
    source: int = 0
    foreign: tuple[str, ...] = ()
    values: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A row that is left out (data.on_missing=skip): its name and why."""

    text_id: str
    reason: str
