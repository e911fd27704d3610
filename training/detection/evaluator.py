"""Mean average precision of a detector in training."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from core.headings import Heading
from evaluation import evaluators
from evaluation.average_precision import mean_average_precision
from objectives.detection import DetectorTask
from runtime import signals, watchdog
from training.detection.data import PictureSet
from vl_models.vision import faster_rcnn
from vl_models.vision.faster_rcnn import Selection

OVERLAP = 0.5


class Detections(evaluators.Evaluator):
    """mAP at an overlap of OVERLAP over the pictures of a split; every process measures all."""

    def __init__(
        self,
        task: DetectorTask,
        pictures: PictureSet,
        selection: Selection,
        *,
        split: str,
        batch_size: int,
    ):
        """Compiles nothing yet.

        Args:
          task: that is trained.
          pictures: of the split.
          selection: of boxes.
          split: its name.
          batch_size: pictures of a batch.
        """
        self._pictures, self._size = pictures, batch_size
        self.split, self.examples = split, len(pictures)

        def detect(params: PyTree, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
            found = faster_rcnn.detect(
                task.model, {"params": params}, task.images(batch), batch["sizes"], selection
            )
            return {k: found[k] for k in ("boxes", "class_ids", "class_scores", "valid")}

        self._detect = jax.jit(detect)

    def run(self, params: PyTree) -> dict[str, float | None]:
        """See `Evaluator`: {"map50"}."""
        found, pictures = [], self._pictures
        for start in range(0, len(pictures), self._size):
            rows = list(range(start, min(start + self._size, len(pictures))))
            batch = pictures.batch(rows + [-1] * (self._size - len(rows)))
            used = {k: jnp.asarray(batch[k]) for k in ("images", "sizes")}
            out = jax.device_get(self._detect(params, used))
            found += [_taken(out, row) for row in range(len(rows))]
            watchdog.beat()
            signals.check()
        truth = [dict(boxes=one.boxes, class_ids=one.class_ids) for one in pictures.objects]
        return {"map50": mean_average_precision(found, truth, OVERLAP)}

    def headings(self) -> dict[str, Heading]:
        """See `Evaluator`."""
        return {"map50": Heading(f"mean average precision at overlap {OVERLAP}", "share")}


def _taken(found: Mapping[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    """The boxes of one picture."""
    valid = found["valid"][row]
    return {name: x[row][valid] for name, x in found.items() if name != "valid"}
