"""Patches of image encoders of transformers (CLIP, SigLIP, DINOv2, ViT) as regions.

  pip install torch torchvision transformers
  --extractor=patch_encoder --extractor_options='{"model": "openai/clip-vit-base-patch32"}'

`model` is a name on the hub (downloaded once) or a folder. A picture is squashed to a square, so
that patches cover all of it. Regions are the last layer's patches, the whole picture is the class
token after its norm (SigLIP, which has none: its attention pooling). No class distributions. More
than 100 patches need --max_regions, as 196 of CLIP's patch16 at 224.
"""

import numpy as np
import torch
import transformers
from transformers import AutoImageProcessor, AutoModel

from core.errors import DataError
from inference.extractors import downloads
from input_pipeline.regions.extract import Regions, grid_boxes


class Extractor:
    """See input_pipeline.regions.extract.Extractor.

    Args:
      model: name on the hub, or a folder.
      size: pixels of the square; 0: as the model was trained.
      device: of torch; empty: a GPU where there is one.
    """

    num_classes = 0
    background_class = None
    global_feature = "stored"

    def __init__(
        self, model: str = "openai/clip-vit-base-patch32", size: int = 0, device: str = ""
    ):
        self._device = downloads.device_of(device)
        self.most_workers = downloads.workers_on(self._device)
        fix = f"with a network: hf download {model} --local-dir FOLDER; then name FOLDER"
        with downloads.loading(model, fix):
            self._processor = AutoImageProcessor.from_pretrained(model)
            made = AutoModel.from_pretrained(model)
        vision = getattr(made, "vision_model", made)  # of a text and image encoder
        self._model = vision.eval().to(self._device)
        config = getattr(made.config, "vision_config", made.config)
        if not hasattr(config, "patch_size"):
            raise DataError(
                "a model has no patches",
                where=model,
                expected="an image encoder such as CLIP, SigLIP, DINOv2 or ViT",
                found=type(made).__name__,
            )
        self._size = size or config.image_size
        self._cells = self._size // config.patch_size
        # Another size than that of the training needs positions in between.
        self._options = (
            {"interpolate_pos_encoding": True} if self._size != config.image_size else {}
        )
        self.feature_dim = config.hidden_size
        self.name = (
            f"transformers {transformers.__version__} {model} last layer's patches {self._size}"
        )

    @torch.inference_mode()
    def __call__(self, picture: np.ndarray) -> Regions:
        """See `Extractor`."""
        side = {"height": self._size, "width": self._size}
        inputs = self._processor(
            images=picture, return_tensors="pt", size=side, do_resize=True, do_center_crop=False
        ).to(self._device)
        out = self._model(pixel_values=inputs["pixel_values"], **self._options)
        tokens = out.last_hidden_state[0]
        return Regions(
            boxes=grid_boxes(self._cells, self._cells, *picture.shape[:2]),
            features=tokens[-(self._cells**2) :].cpu().numpy(),  # class and other tokens lead
            global_feature=out.pooler_output[0].cpu().numpy(),
        )
