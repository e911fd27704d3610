"""Which regions a task names: those are kept where an image has more than fit.

A task names a region by a box of the data set: what may be chosen, what a text means, the objects
that its words mention. Annotated objects that no word mentions go before other regions, as far as
they fit.
"""

from collections.abc import Callable, Mapping

import numpy as np

from core.errors import ConfigError
from input_pipeline.streams import overlap

MIN_OBJECT_IOU = 0.5  # a region with less does not show the object
MIN_CANDIDATE_IOU = 0.8  # below 1, since files round their boxes
CHOICES = ("candidate_boxes", "option_boxes")
# Keys of a batch by which a task names regions.
KEYS = (*CHOICES, "target_box", "object_boxes")
MUST, RATHER, OTHER = range(3)  # ranks: the highest is cut first


def boxes_of(batch: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """[B, O, 4] of a flat array of boxes."""
    flat, count = batch[key], batch[key].shape[1] // 4
    return flat[:, : count * 4].reshape(len(flat), count, 4)


def mentioned(batch: Mapping[str, np.ndarray], row: int) -> np.ndarray:
    """Numbers of the objects, from 0, that words of an example mention."""
    if "token_region" not in batch:
        return np.zeros(0, np.int64)
    numbers = np.unique(batch["token_region"][row])
    return numbers[numbers > 0].astype(np.int64) - 1


def most(batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """int [B]: at most so many regions must stay, by the texts and boxes of a batch."""
    counts = np.zeros(len(batch["text_ids"]), np.int64)
    choices = [key for key in CHOICES if key in batch]
    for key in choices:
        counts += boxes_of(batch, key).any(-1).sum(-1)
    if not choices and "target_box" in batch:
        counts += batch["target_box"].any(-1)
    if "object_boxes" in batch:
        counts += [len(mentioned(batch, row)) for row in range(len(counts))]
    return counts


class Named:
    """Ranks the regions of the images of a batch."""

    def __init__(self, batch: Mapping[str, np.ndarray], name_of: Callable[[int], str], block: str):
        """Takes the boxes of a batch that has no regions yet.

        Args:
          batch: its texts, and the boxes at KEYS; they are on the first image.
          name_of: name_of(b), name of an example, for messages.
          block: the stream's in the config.
        """
        self._batch, self._name_of, self._block = batch, name_of, block
        self._choices = {key: boxes_of(batch, key) for key in CHOICES if key in batch}
        self._objects = boxes_of(batch, "object_boxes") if "object_boxes" in batch else None

    def rank(self, place: tuple[int, ...], boxes: np.ndarray, room: int) -> np.ndarray:
        """Ranks of the regions of one image, int [n]; see `RegionSource.read_into`.

        Raises:
          ConfigError: more regions must stay than there is room for.
        """
        ranks = np.full(len(boxes), OTHER)
        row, image = int(place[0]), int(place[1])
        if image:
            return ranks
        if self._objects is not None:
            objects = self._objects[row]
            ranks[_shown(boxes, objects, MIN_OBJECT_IOU)] = RATHER
            wanted = mentioned(self._batch, row)
            ranks[_shown(boxes, objects[wanted[wanted < len(objects)]], MIN_OBJECT_IOU)] = MUST
        for choices in self._choices.values():
            ranks[_shown(boxes, choices[row], MIN_CANDIDATE_IOU)] = MUST
        if not self._choices and "target_box" in self._batch:
            ranks[_shown(boxes, self._batch["target_box"][row][None], MIN_OBJECT_IOU)] = MUST
        needed = int((ranks == MUST).sum())
        if needed > room:
            raise ConfigError(
                "an example names more regions than fit",
                where=f"{self._block}.max_regions, example {self._name_of(row)!r}",
                expected=f"room for {needed} regions that it names (boxes to choose from, what "
                "it means, objects its words mention) and the whole image",
                found=f"room for {room} of {len(boxes)} regions and the whole image, beside the "
                "text",
                fix=f"--{self._block}.max_regions={needed + 1} or more, and "
                f"--{self._block}.max_length=max_text + max_regions",
            )
        return ranks


def _shown(boxes: np.ndarray, objects: np.ndarray, min_iou: float) -> np.ndarray:
    """Numbers of the regions [n, 4] that show some of the objects [O, 4], zeros being none."""
    with_image = np.concatenate([np.zeros((1, 4), boxes.dtype), boxes])
    found = overlap.match(
        with_image[None], np.ones((1, len(with_image)), bool), objects[None], min_iou
    )
    return found[found > 0] - 1
