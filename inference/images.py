"""What an image may be to those who ask, and the regions that it has."""

import dataclasses
import io
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from core import pictures
from core.errors import DataError
from inference.named import NamedImages, Pictures
from input_pipeline.importers.base import Item
from input_pipeline.importers.formats.members import read_file
from input_pipeline.importers.pictures import decode
from input_pipeline.regions import extract
from input_pipeline.regions.memory import ImageRegions
from input_pipeline.regions.spec import FeatureSpec

FORMS = (
    "the id of an image in a region store, {'boxes': [n, 4] xyxy in pixels, 'features': [n, F], "
    "'size': (height, width)}, (boxes, features, size), or a record of an importer"
)
_NEEDED = {"boxes", "features", "size"}
_FIELDS = {*_NEEDED, "id", "class_probs", "global_feature", "picture"}


@dataclasses.dataclass(frozen=True, eq=False)
class Image(ImageRegions):
    """The regions of an image, and its picture to be shown.

    Attributes:
      pictures: where it is looked up by its id; None: nowhere.
    """

    pictures: Pictures | None = None

    @property
    def picture(self) -> bytes | None:
        """Of its file; None without one."""
        return self.pictures.of([self.key])[self.key] if self.pictures else None

    def outline(self) -> "Image":
        """What it takes to draw it: without features."""
        return dataclasses.replace(self, record={"boxes": self.record["boxes"]})


@dataclasses.dataclass(frozen=True, eq=False)
class ImageReader:
    """Finds the regions of images.

    Attributes:
      spec: what the model was trained on.
      named: named() → where ids are looked up; called when there is one.
      extractor: finds regions in pictures; None: pictures have none.
    """

    spec: FeatureSpec
    named: Callable[[], NamedImages]
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

    def read(self, image: Any) -> Image:
        """The regions of an image, whatever form it is given in (`FORMS`, or a picture).

        Raises:
          DataError: no such image, none at all, no regions, or arrays that are wrong.
        """
        if image is None:
            raise DataError("there is no image", expected=FORMS, found="None")
        if isinstance(image, Image):
            return image
        if isinstance(image, ImageRegions):
            return Image(**vars(image))
        if isinstance(image, str | numbers.Integral):
            key = str(image)
            # With an extractor, a file that is there is a picture.
            is_picture = self.extractor is not None and os.path.isfile(key)
            return self._of_picture(key) if is_picture else self._of_name(key)
        if isinstance(image, os.PathLike | PIL.Image.Image) or _is_pixels(image):
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

    def _of_name(self, key: str) -> Image:
        """Of an image that is known by its id."""
        try:
            named = self.named()
        except DataError as error:
            if os.path.isfile(key):
                raise _without_extractor(key) from error
            raise
        (row,) = named.store.rows_of([key])
        if row < 0 and os.path.isfile(key):
            raise _without_extractor(key)
        if row < 0:
            raise DataError(
                "an image has no regions: the store does not know it",
                where=f"image {key!r}",
                expected=f"one of {len(named.store):,} ids, such as "
                + ", ".join(map(repr, named.store.keys[:3])),
                found="no such id",
                fix="check the id, or import the regions of the image",
            )
        return Image(**vars(ImageRegions.of_store(named.store, int(row))), pictures=named.pictures)

    def _of_mapping(self, image: Mapping[str, Any]) -> Image:
        unknown, missing = set(image) - _FIELDS, _NEEDED - set(image)
        if unknown or missing:
            raise DataError(
                "an image's arrays are named otherwise",
                expected="boxes, features and size; id, class_probs, global_feature and picture "
                "where there are any",
                found=sorted(map(str, image)),
            )
        found = self._of_arrays(
            str(image.get("id", "image")),
            image["boxes"],
            image["features"],
            image["size"],
            image.get("class_probs"),
            image.get("global_feature"),
        )
        picture = image.get("picture")
        return found if picture is None else _shown(found, picture)

    def _of_arrays(
        self,
        key: str,
        boxes: Any,
        features: Any,
        size: Any,
        class_probs: Any = None,
        global_feature: Any = None,
    ) -> Image:
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
            return Image.of_arrays(
                spec, key, np.asarray(boxes, np.float32), np.asarray(features, np.float32),
                (height, width), class_probs, global_feature, fail,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise fail("an image's arrays cannot be read", FORMS, str(error)) from error

    def _of_picture(self, image: Any) -> Image:
        if self.extractor is None:
            raise _without_extractor(f"a picture ({type(image).__name__})")
        where = str(image) if isinstance(image, str | os.PathLike) else "the picture"
        picture = _pixels(image, where)
        found = extract.regions_of(self.extractor, picture, where)
        read = self._of_arrays(
            where, found.boxes, found.features, picture.shape[:2], found.class_probs,
            found.global_feature,
        )  # fmt: skip
        return _shown(read, picture)


def _without_extractor(picture: str) -> DataError:
    return DataError(
        "a picture has no regions yet, and there is no extractor to find them",
        expected=FORMS,
        found=picture,
        fix="load(place, extractor=...), on the command line --extractor=..., see docs/data.md",
    )


def _shown(image: Image, picture: Any) -> Image:
    """An image that is shown with a picture: a path, bytes of a file, pixels or a PIL image."""

    def read(ids: Any) -> dict[str, bytes]:
        if isinstance(picture, bytes):
            return {image.key: picture}
        out = io.BytesIO()
        PIL.Image.fromarray(_pixels(picture, str(image.key))).save(out, "PNG")
        return {image.key: out.getvalue()}

    return dataclasses.replace(image, pictures=Pictures(read))


def _is_pixels(image: Any) -> bool:
    return isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[-1] == 3


def _pixels(image: Any, where: str) -> np.ndarray:
    """uint8 [H, W, 3], upright."""
    if isinstance(image, str | os.PathLike):
        data = read_file(str(image))
        if isinstance(data, DataError):
            raise data
        return decode(data, where)
    if isinstance(image, PIL.Image.Image):
        return np.array(pictures.upright(image).convert("RGB"))
    if image.dtype != np.uint8:
        raise DataError(
            "a picture has pixels of the wrong kind",
            where=where,
            expected="uint8 [height, width, 3], RGB",
            found=f"{image.dtype} {list(image.shape)}",
        )
    return image
