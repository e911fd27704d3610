"""Pictures with their objects in memory, and batches of them as a pure function of the draw."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from core import pictures
from core.errors import DataError
from input_pipeline.datasets.reading.prepared import PictureObjects, Prepared
from objectives.detection import STREAM
from vl_models.vision.canvas import Pixels, interpolated, resized


class PictureSet:
    """The pictures of a split, resized, with their objects.

    Attributes:
      ids: of the pictures.
      objects: of each picture, boxes in pixels of the resized one.
      fingerprint: digest of all of it.
    """

    def __init__(self, prepared: Prepared, split: str, pixels: Pixels):
        """Reads and resizes all pictures.

        Args:
          prepared: the data set.
          split: of it.
          pixels: how they are resized.

        Raises:
          DataError: a data set without objects or pictures, or a picture that is missing or broken.
        """
        if prepared.objects is None or prepared.pictures is None:
            raise DataError(
                "a detector cannot be trained on this data set",
                expected="one that comes with pictures and their objects",
                found="texts and regions alone",
            )
        objects = [one for one in prepared.objects(split) if len(one.boxes)]
        files = prepared.pictures([one.image_id for one in objects])
        if missing := [one.image_id for one in objects if one.image_id not in files]:
            raise DataError(
                f"{len(missing):,} of {len(objects):,} pictures of a split are missing",
                where=f"split {split!r}",
                found=", ".join(missing[:5]),
            )
        self.ids = [one.image_id for one in objects]
        self._pictures, self.objects, digest = [], [], hashlib.sha256()
        for one in objects:
            data = files[one.image_id]
            picture = pictures.decoded(data, one.image_id)
            height, width = picture.shape[:2]
            rows, columns = resized(height, width, pixels)
            scale = [columns / width, rows / height] * 2
            small = interpolated(picture, rows, columns)
            self._pictures.append(np.rint(small).astype(np.uint8))
            self.objects.append(_scaled(one, np.float32(scale)))
            digest.update(data + np.ascontiguousarray(one.boxes).tobytes())
            digest.update(np.stack([one.class_ids, one.attribute_ids]).astype(np.int64).tobytes())
        self.fingerprint = f"{split} {pixels.short}/{pixels.long} {digest.hexdigest()[:16]}"
        self._canvas = tuple(np.max([picture.shape[:2] for picture in self._pictures], 0).tolist())
        self._most = max(len(one.boxes) for one in objects)

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Sequence[int], mirrored: Sequence[bool] | None = None) -> dict:
        """The arrays of `objectives.detection.DetectorTask`; rows of -1 are padding.

        Args:
          rows: numbers of pictures.
          mirrored: which of them are mirrored; None: none.
        """
        count, most = len(rows), self._most
        out = dict(
            images=np.zeros((count, *self._canvas, 3), np.uint8),
            sizes=np.ones((count, 2), np.float32),
            boxes=np.zeros((count, most, 4), np.float32),
            classes=np.zeros((count, most), np.int32),
            attributes=np.full((count, most), -1, np.int32),
            present=np.zeros((count, most), bool),
            example_index=np.asarray(rows, np.int32),
            _weight=np.float32(np.asarray(rows) >= 0),
        )
        for place, row in enumerate(rows):
            if row < 0:
                continue
            picture, one = self._pictures[row], self.objects[row]
            boxes, number = one.boxes, len(one.boxes)
            if mirrored is not None and mirrored[place]:
                picture = picture[:, ::-1]
                boxes = np.stack(
                    [picture.shape[1] - boxes[:, 2], boxes[:, 1],
                     picture.shape[1] - boxes[:, 0], boxes[:, 3]], -1,
                )  # fmt: skip
            out["images"][place, : picture.shape[0], : picture.shape[1]] = picture
            out["sizes"][place] = picture.shape[:2]
            out["boxes"][place, :number] = boxes
            out["classes"][place, :number] = one.class_ids
            out["attributes"][place, :number] = one.attribute_ids
            out["present"][place, :number] = True
        return out

    def draw(self, seed: int, draw: int, size: int, part: int = 0, parts: int = 1) -> dict:
        """Batch number `draw` of training: every picture once an epoch, half of them mirrored.

        Args:
          seed: of the run.
          draw: number of the batch.
          size: pictures of the whole batch.
          part, parts: which of so many equal parts of its rows is made.
        """
        first = draw * size
        numbers = np.arange(first, first + size)
        orders = {
            epoch: np.random.default_rng([seed, epoch]).permutation(len(self))
            for epoch in np.unique(numbers // len(self))
        }
        rows = np.asarray([orders[n // len(self)][n % len(self)] for n in numbers])
        mirrored = np.random.default_rng([seed, draw, 1]).random(size) < 0.5
        rows, mirrored = (np.split(x, parts)[part] for x in (rows, mirrored))
        return self.batch(rows.tolist(), mirrored.tolist())

    def batches(
        self, seed: int, size: int, plan: Iterator[Mapping[str, int]]
    ) -> Iterator[tuple[dict[str, int], dict[str, dict]]]:
        """(draws, {stream: this process's rows}) of each step, see `training.parts.Parts`."""
        process, processes = jax.process_index(), jax.process_count()
        for draws in plan:
            yield dict(draws), {STREAM: self.draw(seed, draws[STREAM], size, process, processes)}


def _scaled(one: PictureObjects, scale: np.ndarray) -> PictureObjects:
    return PictureObjects(
        one.image_id, np.float32(one.boxes) * scale, one.class_ids, one.attribute_ids
    )
