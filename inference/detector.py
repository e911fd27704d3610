"""Runs a detector on pictures: resized, padded to one of a few canvases, on all devices."""

import concurrent.futures
import functools
import os
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from checkpoints.detector import Detector
from vl_models import loading
from vl_models.vision import faster_rcnn
from vl_models.vision.canvas import canvas_of, interpolated, resized
from vl_models.vision.faster_rcnn import FasterRCNN, Selection


class PictureDetector:
    """A detector with its parameters on this process's devices.

    Attributes:
      detector: as its file has it.
      selection: how boxes are chosen.
    """

    def __init__(
        self,
        detector: Detector,
        selection: Selection | None = None,
        *,
        batch_size: int = 8,
        at_once: int = 100,
    ):
        """Puts the parameters on every device.

        Args:
          detector: to run; matrix products are of `detector.sizes.resnet.dtype`.
          selection: None: the detector's own.
          batch_size: pictures of a call, a multiple of the devices.
          at_once: regions of a picture whose C5 is in memory at a time.
        """
        self.detector, self.selection = detector, selection or detector.selection
        self.batch_size = batch_size
        self._mesh = Mesh(np.asarray(jax.local_devices()), ("data",))
        if batch_size % self._mesh.size:
            raise ValueError(f"batch_size {batch_size} is no multiple of {self._mesh.size} devices")
        params = {"params": loading.unflatten(dict(detector.arrays))}
        self._params = jax.device_put(params, NamedSharding(self._mesh, PartitionSpec()))
        self._batched = NamedSharding(self._mesh, PartitionSpec("data"))
        self._threads = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        run = functools.partial(
            faster_rcnn.detect,
            FasterRCNN(detector.sizes),
            selection=self.selection,
            at_once=at_once,
        )
        rows = PartitionSpec("data")
        # Each device has pictures of its own from beginning to end.
        self._run = jax.jit(
            jax.shard_map(
                lambda params, images, sizes: run(params, images, sizes),
                mesh=self._mesh,
                in_specs=(PartitionSpec(), rows, rows),
                out_specs=rows,
                check_vma=False,
            )
        )

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[Mapping[str, np.ndarray]]:
        """What it finds in pictures of one canvas, at most `batch_size` of them.

        Args:
          pictures: uint8 [H, W, 3], RGB.

        Returns:
          For each `faster_rcnn.select_boxes`, boxes alone and these in pixels of the picture.
        """
        images, sizes = self.prepared(pictures)
        found = jax.device_get(self.run(*self.placed(images, sizes)))
        return [
            self._of_picture({name: x[row] for name, x in found.items()}, picture, sizes[row])
            for row, picture in enumerate(pictures)
        ]

    def prepared(self, pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(images [batch_size, H, W, 3], sizes [batch_size, 2]) as `faster_rcnn.detect` has them.

        In threads: resizing takes a core some 20 ms a picture, in which a fast device idles.
        """
        pixels = self.detector.pixels
        canvas = canvas_of(*pictures[0].shape[:2], pixels)
        images = np.zeros((self.batch_size, *canvas, 3), np.float32)
        sizes = np.ones((self.batch_size, 2), np.float32)

        def prepare(row: int) -> None:
            size = resized(*pictures[row].shape[:2], pixels)
            sizes[row] = size
            found = interpolated(pictures[row][..., ::-1], *size)
            np.subtract(found, np.float32(pixels.mean), out=images[row, : size[0], : size[1]])

        list(self._threads.map(prepare, range(len(pictures))))
        return images, sizes

    def placed(self, images: np.ndarray, sizes: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """A batch on the devices, each with its pictures."""
        return jax.device_put((images, sizes), self._batched)

    def run(self, images: jax.Array, sizes: jax.Array) -> dict[str, jax.Array]:
        """`faster_rcnn.detect` of a placed batch."""
        return self._run(self._params, images, sizes)

    @staticmethod
    def _of_picture(
        found: Mapping[str, np.ndarray], picture: np.ndarray, size: np.ndarray
    ) -> dict[str, np.ndarray]:
        out = {name: x[found["valid"]] for name, x in found.items() if name != "valid"}
        scale = np.float32(picture.shape[:2]) / size
        out["boxes"] = out["boxes"] * np.tile(scale[::-1], 2)
        return out
