"""What an image may be to those who ask, and the regions that it has."""

import dataclasses
import numbers
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from core import pictures
from core.errors import DataError
from input_pipeline.importers.base import Item
from input_pipeline.importers.formats.members import read_file
from input_pipeline.importers.pictures import decode
from input_pipeline.regions import RegionStore, extract
from input_pipeline.regions.memory import ImageRegions
from input_pipeline.regions.spec import FeatureSpec

FORMS = (
    "the id of an image in a region store, {'boxes': [n, 4] xyxy in pixels, 'features': [n, F], "
    "'size': (height, width)}, (boxes, features, size), or a record of an importer"
)
_FIELDS = {"boxes", "features", "size", "id", "class_probs", "global_feature"}


@dataclasses.dataclass(frozen=True, eq=False)
class ImageReader:
    """Finds the regions of images.

    Attributes:
      spec: what the model was trained on.
      store: where ids are looked up; None: nowhere.
      extractor: finds regions in pictures; None: pictures have none.
    """

    spec: FeatureSpec
    store: RegionStore | None = None
    extractor: extract.Extractor | None = None

    def __post_init__(self) -> None:
        if self.extractor is not None:
            found = {
                name: getattr(self.extractor, "name" if name == "detector" else name)
                for name in ("detector", "feature_dim", "num_classes", "global_feature")
            }
            theirs = dataclasses.replace(
                self.spec, **found, background_class=self.extractor.background_class
            )
            self.spec.require_match(theirs, "the model", "the extractor")

    def regions(self, image: Any) -> ImageRegions:
        """The regions of an image, whatever form it is given in (`FORMS`, or a picture).

        Raises:
          DataError: no such image, none at all, no regions, or arrays that are wrong.
        """
        if image is None:
            raise DataError("there is no image", expected=FORMS, found="None")
        if isinstance(image, ImageRegions):
            return image
        if isinstance(image, str | numbers.Integral):
            return self._of_name(str(image))
        if isinstance(image, os.PathLike | Image.Image) or _is_pixels(image):
            return self._of_picture(image)
        if isinstance(image, Item):
            size = (image.height, image.width)
            return self._of_arrays(
                image.image_id, image.boxes, image.features, size, image.class_probs,
                image.global_feature,
            )  # fmt: skip
        if isinstance(image, Mapping):
            return self._of_mapping(image)
        if isinstance(image, Sequence) and len(image) == 3:
            boxes, features, size = image
            return self._of_arrays("image", boxes, features, size)
        raise DataError("this is no image", expected=FORMS, found=type(image).__name__)

    def _of_name(self, key: str) -> ImageRegions:
        """Of an image of the store, else of a picture's file."""
        known = self.store is not None and self.store.rows_of([key])[0] >= 0
        if not known and self.extractor is not None and os.path.isfile(key):
            return self._of_picture(key)
        if self.store is None:
            is_file = os.path.isfile(key)
            raise DataError(
                "an image is named by its id, and there is no region store to look it up in",
                where=f"image {key!r}",
                found="a file of that name, and no extractor" if is_file else "",
                fix="load(place, extractor=...) finds the regions of pictures"
                if is_file
                else "name the store: load(place, regions=STORE), or on the command line "
                "--regions=STORE",
            )
        (row,) = self.store.rows_of([key])
        if row < 0:
            raise DataError(
                "an image has no regions: the store does not know it",
                where=f"image {key!r}",
                expected=f"one of {len(self.store):,} ids, such as {self.store.keys[0]!r}",
                found="no such id",
                fix="check the id, or import the regions of the image",
            )
        return ImageRegions.of_store(self.store, int(row))

    def _of_mapping(self, image: Mapping[str, Any]) -> ImageRegions:
        unknown, missing = set(image) - _FIELDS, {"boxes", "features", "size"} - set(image)
        if unknown or missing:
            raise DataError(
                "an image's arrays are named otherwise",
                expected="boxes, features and size; id, class_probs and global_feature where there "
                "are any",
                found=sorted(map(str, image)),
            )
        return self._of_arrays(
            str(image.get("id", "image")),
            image["boxes"],
            image["features"],
            image["size"],
            image.get("class_probs"),
            image.get("global_feature"),
        )

    def _of_arrays(
        self,
        key: str,
        boxes: Any,
        features: Any,
        size: Any,
        class_probs: Any = None,
        global_feature: Any = None,
    ) -> ImageRegions:
        """Checks arrays; distributions may be left out where the model does not read them."""

        def fail(what: str, expected: object, found: object, *_: str) -> DataError:
            return DataError(what, where=f"image {key!r}", expected=expected, found=found)

        if np.size(features) == 0:
            raise fail("an image has no regions", "at least one", "none")
        if np.ndim(size) != 1 or len(size) != 2:
            raise fail("the size of an image is wrong", "(height, width) in pixels", repr(size))
        spec = self.spec
        if class_probs is None:
            spec = dataclasses.replace(spec, num_classes=0, background_class=None)
        elif not spec.num_classes:  # distributions that the model was not trained with
            class_probs = None
        height, width = (int(side) for side in size)
        try:
            return ImageRegions.of_arrays(
                spec, key, np.asarray(boxes, np.float32), np.asarray(features, np.float32),
                (height, width), class_probs, global_feature, fail,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise fail("an image's arrays cannot be read", FORMS, str(error)) from error

    def _of_picture(self, image: Any) -> ImageRegions:
        if self.extractor is None:
            raise DataError(
                "a picture has no regions yet, and there is no extractor to find them",
                expected=FORMS,
                found=f"a picture ({type(image).__name__})",
                fix="load(place, extractor=...), see input_pipeline.regions.extract",
            )
        where = str(image) if isinstance(image, str | os.PathLike) else "the picture"
        picture = _pixels(image, where)
        found = extract.regions_of(self.extractor, picture, where)
        return self._of_arrays(
            where, found.boxes, found.features, picture.shape[:2], found.class_probs,
            found.global_feature,
        )  # fmt: skip


def _is_pixels(image: Any) -> bool:
    return isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[-1] == 3


def _pixels(image: Any, where: str) -> np.ndarray:
    """uint8 [H, W, 3], upright."""
    if isinstance(image, str | os.PathLike):
        data = read_file(str(image))
        if isinstance(data, DataError):
            raise data
        return decode(data, where)
    if isinstance(image, Image.Image):
        return np.array(pictures.upright(image).convert("RGB"))
    if image.dtype != np.uint8:
        raise DataError(
            "a picture has pixels of the wrong kind",
            where=where,
            expected="uint8 [height, width, 3], RGB",
            found=f"{image.dtype} {list(image.shape)}",
        )
    return image
