"""Faster R-CNN of Visual Genome: the bottom-up-attention features, in JAX.

Needs the published weights: `hf download unc-nlp/frcnn-vg-finetuned --local-dir FOLDER` (the
package huggingface_hub does it by itself where there is a network; pytorch_model.bin is read with
torch), or a detector of one's own (`checkpoints.detector`).

  --extractor_options='{"weights": "FOLDER", "boxes": "36"}'

Features are 2048-d, classes 1600 and the background, the last; attributes 400.
"""

import dataclasses

import jax
import numpy as np

from checkpoints import detector as detectors
from core.errors import ConfigError, DataError
from core.reading import reading
from inference.detector import PictureDetector
from input_pipeline.regions.extract import Regions
from vl_models.vision.canvas import canvas_of


class Extractor:
    """See input_pipeline.regions.extract.BatchExtractor.

    Args:
      weights: a detector's folder, or its name on the hub.
      boxes: "least,most" boxes of a picture, or one number; empty: as the weights' config says, and
        10 to 100 without one.
      score: of its object, below which a box is left out unless it is one of the least; None: as
        the weights' config says, and 0 without one.
      objects, attributes: files of the classes' and attributes' names, one a line, where the
        weights have none (genome_vocab of the original project).
      size: "short,long" sides in pixels that pictures are resized to; empty: as with boxes.
      dtype: of matrix products: bfloat16 on accelerators.
      batch_size: pictures of a batch and device.
    """

    global_feature = "mean"
    most_workers = 1

    def __init__(
        self,
        weights: str = "unc-nlp/frcnn-vg-finetuned",
        boxes: str = "",
        score: float | None = None,
        objects: str = "",
        attributes: str = "",
        size: str = "",
        dtype: str = "float32",
        batch_size: int = 4,
    ):
        if dtype not in ("float32", "bfloat16"):
            raise ConfigError("unknown dtype", expected="float32 or bfloat16", found=repr(dtype))
        found = detectors.load(weights)
        sizes = found.sizes
        resnet = dataclasses.replace(sizes.resnet, dtype=dtype)
        least, most = _pair(boxes, "boxes") or (found.selection.least, found.selection.most)
        short, long = _pair(size, "size") or (found.pixels.short, found.pixels.long)
        selection = dataclasses.replace(
            found.selection,
            least=least,
            most=most,
            score=found.selection.score if score is None else score,
            proposals=max(most, found.selection.proposals),
        )
        self._detector = PictureDetector(
            dataclasses.replace(
                found,
                sizes=dataclasses.replace(sizes, resnet=resnet),
                pixels=dataclasses.replace(found.pixels, short=short, long=long),
            ),
            selection,
            batch_size=batch_size * jax.local_device_count(),
        )
        self.batch_size = self._detector.batch_size
        self.feature_dim = sizes.resnet.c5
        self.num_classes, self.background_class = sizes.classes + 1, sizes.classes
        names = _names(objects, sizes.classes) or found.objects
        self.class_names = (*names, "__background__") if names else ()
        self.attribute_names = _names(attributes, sizes.attributes) or tuple(found.attributes)
        # Digits of the weights themselves: a name or folder may change what it holds.
        depth = sum(sizes.resnet.blocks) * 3 + 2
        self.name = (
            f"faster-rcnn-{depth} {found.digest()} {short}/{long} {dtype} {least}-{most} boxes"
            + f" of {selection.score:g}" * bool(selection.score)
        )

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """See `BatchExtractor`."""
        return canvas_of(height, width, self._detector.detector.pixels)

    def __call__(self, picture: np.ndarray) -> Regions:
        """See `Extractor`."""
        found = self.batch([picture])[0]
        if isinstance(found, DataError):
            raise found
        return found

    def batch(self, pictures: list[np.ndarray]) -> list[Regions | DataError]:
        """See `BatchExtractor`."""
        return [self._regions(found) for found in self._detector(pictures)]

    def _regions(self, found: dict[str, np.ndarray]) -> Regions | DataError:
        if not len(found["boxes"]):
            return DataError("the detector finds nothing in a picture", expected="a box or more")
        return Regions(
            boxes=found["boxes"],
            features=found["features"],
            class_probs=found["class_probs"],
            attribute_probs=found.get("attribute_probs") if self.attribute_names else None,
        )


def _pair(text: str, option: str) -> tuple[int, int] | None:
    """The whole numbers of "a,b", "a" for "a,a"; None for an empty text."""
    try:
        numbers = [int(part) for part in text.split(",")] if text else []
        if text and (len(numbers) > 2 or min(numbers) < 1 or numbers != sorted(numbers)):
            raise ValueError
    except ValueError as error:
        raise ConfigError(
            "an option of an extractor is no pair of numbers",
            where=f"--extractor_options, {option}",
            expected='"10,100" or "36"',
            found=repr(text),
        ) from error
    return (numbers[0], numbers[-1]) if numbers else None


def _names(path: str, count: int) -> tuple[str, ...]:
    """Lines of a file of names, () without one; a line of synonyms is named by the first."""
    if not path:
        return ()
    with reading(path, "a list of names cannot be read"), open(path, encoding="utf-8") as file:
        names = tuple(line.split(",")[0].strip() for line in file.read().splitlines())
    if len(names) != count:
        raise DataError(
            "a list of names does not fit the detector",
            where=path,
            expected=f"{count:,} lines",
            found=f"{len(names):,}",
        )
    return names
