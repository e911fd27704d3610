"""Cells of the last feature map of timm's convolutional networks as regions.

  pip install torch timm
  --extractor=timm_grid --extractor_options='{"model": "resnet50.a1_in1k"}'

`model` is a name of `timm.list_models(pretrained=True)`, downloaded once; `checkpoint` names a file
of its weights instead. A picture is squashed to a square, so that cells cover all of it. No class
distributions.
"""

import numpy as np
import timm
import torch
from PIL import Image

from core.errors import DataError
from inference.extractors import downloads
from input_pipeline.regions.extract import Regions, grid_boxes


class Extractor:
    """See input_pipeline.regions.extract.Extractor.

    Args:
      model: of timm, with the tag of its weights.
      checkpoint: file of its weights; empty: downloaded.
      size: pixels of the square; 0: as the weights were tested.
      device: of torch; empty: a GPU where there is one.
    """

    num_classes = 0
    background_class = None
    global_feature = "mean"

    def __init__(
        self,
        model: str = "resnet50.a1_in1k",
        checkpoint: str = "",
        size: int = 0,
        device: str = "",
    ):
        self._device = downloads.device_of(device)
        self.most_workers = downloads.workers_on(self._device)
        fix = f"with a network run it once, or: hf download timm/{model}, then "
        fix += '--extractor_options \'{"checkpoint": "FOLDER/model.safetensors", ...}\''
        with downloads.loading(model, fix):
            made = timm.create_model(model, pretrained=not checkpoint, checkpoint_path=checkpoint)
        data = timm.data.resolve_model_data_config(made, use_test_size=True)
        self._model = made.eval().to(self._device)
        self._mean, self._std = (np.float32(data[key]) for key in ("mean", "std"))
        self._resample = Image.Resampling[data["interpolation"].upper()]
        self._size = size or data["input_size"][-1]
        shape = self._cells(np.zeros((self._size, self._size, 3), np.uint8)).shape
        if len(shape) != 3:
            raise DataError(
                "a model has no feature map",
                where=model,
                expected="a convolutional network (patches of transformers: patch_encoder)",
                found=f"features of shape {tuple(shape)}",
            )
        self.feature_dim = shape[0]
        origin = f" {checkpoint}" if checkpoint else ""
        self.name = f"timm {timm.__version__} {model}{origin} last map {self._size}"

    @torch.inference_mode()
    def _cells(self, picture: np.ndarray) -> torch.Tensor:
        """[F, rows, columns] of a picture."""
        square = Image.fromarray(picture).resize((self._size, self._size), self._resample)
        pixels = (np.asarray(square, np.float32) / 255 - self._mean) / self._std
        inputs = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self._device)
        return self._model.forward_features(inputs)[0].cpu()

    def __call__(self, picture: np.ndarray) -> Regions:
        """See `Extractor`."""
        cells = self._cells(picture)
        return Regions(
            boxes=grid_boxes(*cells.shape[1:], *picture.shape[:2]),
            features=cells.flatten(1).T.numpy(),
        )
