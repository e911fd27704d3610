"""Faster R-CNN detectors of torchvision (COCO): boxes, features of the box head, all class scores.

  pip install torch torchvision
  --extractor=torchvision_detector --extractor_options='{"model": "fasterrcnn_resnet50_fpn_v2"}'

The weights are downloaded by torchvision, once; `checkpoint` names a file of them instead. Every
proposal stands for its most probable object, as in the bottom-up-attention features; class
distributions are of torchvision's 91 classes, of which the first is the background.
"""

import numpy as np
import torch
import torchvision
from torchvision.ops import clip_boxes_to_image, nms

from core.errors import DataError
from inference.extractors import downloads
from input_pipeline.regions.extract import Regions


class Extractor:
    """See input_pipeline.regions.extract.Extractor.

    Args:
      model: a Faster R-CNN or Mask R-CNN of torchvision.models.detection.
      checkpoint: file of its state dict; empty: torchvision's best, downloaded.
      boxes: most of a picture.
      overlap: above which the box of the lower score is dropped.
      device: of torch; empty: a GPU where there is one.
    """

    background_class = 0
    global_feature = "mean"

    def __init__(
        self,
        model: str = "fasterrcnn_resnet50_fpn_v2",
        checkpoint: str = "",
        boxes: int = 36,
        overlap: float = 0.5,
        device: str = "",
    ):
        self._device = downloads.device_of(device)
        self.most_workers = downloads.workers_on(self._device)
        fix = "with a network run it once, or give the file: --extractor_options "
        with downloads.loading(model, fix + '\'{"checkpoint": "FILE.pth"}\''):
            weights = torchvision.models.get_model_weights(model).DEFAULT
            made = torchvision.models.get_model(
                model, weights=None if checkpoint else weights, weights_backbone=None
            )
            if checkpoint:
                state = torch.load(checkpoint, map_location="cpu", weights_only=True)
                made.load_state_dict(state)
        if not hasattr(made, "roi_heads"):
            raise DataError(
                "a detector has no heads on regions",
                where=model,
                expected="a Faster R-CNN or Mask R-CNN",
                found=type(made).__name__,
            )
        self._model = made.eval().to(self._device)
        self._boxes, self._overlap = boxes, overlap
        predictor = made.roi_heads.box_predictor
        self.feature_dim = predictor.cls_score.in_features
        self.num_classes = predictor.cls_score.out_features
        names = tuple(weights.meta["categories"])
        self.class_names = names if len(names) == self.num_classes else ()
        origin = checkpoint or str(weights)
        self.name = (
            f"torchvision {torchvision.__version__} {model} {origin} box_head "
            f"{made.transform.min_size[0]}/{made.transform.max_size} {boxes} boxes {overlap}"
        )

    @torch.inference_mode()
    def __call__(self, picture: np.ndarray) -> Regions:
        """See `Extractor`."""
        model, heads = self._model, self._model.roi_heads
        image = torch.from_numpy(np.ascontiguousarray(picture)).to(self._device)
        images, _ = model.transform([image.permute(2, 0, 1).float() / 255])
        maps = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, maps)
        features = heads.box_head(heads.box_roi_pool(maps, proposals, images.image_sizes))
        logits, deltas = heads.box_predictor(features)
        probs = logits.softmax(-1)
        scores, classes = probs[:, 1:].max(-1)
        decoded = heads.box_coder.decode(deltas, proposals)
        boxes = decoded[torch.arange(len(decoded)), classes + 1]
        boxes = clip_boxes_to_image(boxes, images.image_sizes[0])
        real = ((boxes[:, 2:] - boxes[:, :2]) > 1).all(-1).nonzero()[:, 0]
        kept = real[nms(boxes[real], scores[real], self._overlap)[: self._boxes]]
        if not len(kept):
            raise DataError("the detector finds nothing in a picture", expected="a box or more")
        height, width = images.image_sizes[0]
        scale = [picture.shape[1] / width, picture.shape[0] / height] * 2
        return Regions(
            boxes=boxes[kept].cpu().numpy() * np.float32(scale),
            features=features[kept].cpu().numpy(),
            class_probs=probs[kept].cpu().numpy(),
        )
