"""Detectors of transformers (DETR and its family, YOLOS): boxes and the decoder's states.

  pip install torch torchvision transformers timm
  --extractor=transformers_detector --extractor_options='{"model": "facebook/detr-resnet-50"}'

`model` is a name on the hub (downloaded once) or a folder. Models with a class "no object" (DETR,
YOLOS) give class distributions, of which it is the background, the last; the others score every
class by itself (Deformable DETR, RT-DETR), which is no distribution: their stores have none.
"""

import numpy as np
import torch
import transformers
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from core.errors import DataError
from inference.extractors import downloads
from input_pipeline.regions.extract import Regions


class Extractor:
    """See input_pipeline.regions.extract.Extractor.

    Args:
      model: name on the hub, or a folder.
      boxes: most of a picture, those of the highest scores.
      device: of torch; empty: a GPU where there is one.
    """

    global_feature = "mean"

    def __init__(self, model: str = "facebook/detr-resnet-50", boxes: int = 36, device: str = ""):
        self._device = downloads.device_of(device)
        self.most_workers = downloads.workers_on(self._device)
        fix = f"with a network: hf download {model} --local-dir FOLDER; then name FOLDER"
        with downloads.loading(model, fix):
            self._processor = AutoImageProcessor.from_pretrained(model)
            made = AutoModelForObjectDetection.from_pretrained(model)
        self._model, self._boxes = made.eval().to(self._device), boxes
        # What no configuration says: how its classes are scored, and how wide its states are.
        logits, states, _ = self._run(np.zeros((64, 64, 3), np.uint8))
        labels = made.config.id2label
        self.feature_dim = states.shape[-1]
        self._distributed = logits.shape[-1] == len(labels) + 1
        self.num_classes = logits.shape[-1] if self._distributed else 0
        self.background_class = len(labels) if self._distributed else None
        names = (*(labels[i] for i in sorted(labels)), "__background__")
        self.class_names = names if self._distributed else ()
        size = dict(self._processor.size)
        self.name = f"transformers {transformers.__version__} {model} decoder {size} {boxes} boxes"

    @torch.inference_mode()
    def _run(self, picture: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits [Q, C], states [Q, D] and boxes [Q, 4] (centre and sides, of 1) of the queries."""
        inputs = self._processor(images=picture, return_tensors="pt").to(self._device)
        out = self._model(**inputs)
        queries = out.logits.shape[1]
        # YOLOS has its queries behind the patches.
        states = out.last_hidden_state[0, -queries:]
        return out.logits[0].cpu(), states.cpu(), out.pred_boxes[0].cpu()

    def __call__(self, picture: np.ndarray) -> Regions:
        """See `Extractor`."""
        logits, states, found = self._run(picture)
        probs = logits.softmax(-1) if self._distributed else logits.sigmoid()
        scores = (probs[:, :-1] if self._distributed else probs).max(-1).values
        centre, sides = found[:, :2], found[:, 2:]
        corners = torch.cat([centre - sides / 2, centre + sides / 2], -1).clamp(0, 1)
        boxes = corners * torch.tensor([picture.shape[1], picture.shape[0]] * 2)
        real = ((boxes[:, 2:] - boxes[:, :2]) > 1).all(-1)
        order = scores.masked_fill(~real, -1).sort(descending=True, stable=True).indices
        kept = order[: min(self._boxes, int(real.sum()))]
        if not len(kept):
            raise DataError("the detector finds nothing in a picture", expected="a box or more")
        return Regions(
            boxes=boxes[kept].numpy(),
            features=states[kept].numpy(),
            class_probs=probs[kept].numpy() if self._distributed else None,
        )
