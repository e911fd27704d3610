"""Arrays of many images in one .npz file, boxes one after the other.

Keys of a file with N images, n boxes in all, F features and C classes:

  paths     [N] text         image ids; texts refer to images by these
  hw        [N, 2] integer   height and width of the image in pixels
  offset    [N + 1] integer  boxes of image i are offset[i] : offset[i + 1]
  boxes     [n, 4] float     xyxy in pixels of the image
  feat      [n + N, F] float one more row per image than boxes: image i's rows are
                             offset[i] + i : offset[i + 1] + i + 1, the first is the whole image
  cls_prob  [n, C] float     class distribution of each box, column 0 = background; optional, but
                             in all files or in none. Rows in half precision may sum to 1 +- 1e-2
                             and are normalised after the check.

Other keys (objects_id, objects_conf: the best class and its score) follow from these and are not
read. `--global_feature stored` keeps the whole-image row of the file, `mean` (VL-BERT's choice)
replaces it by the mean of the regions. Pickled arrays are refused.
"""

import argparse
import contextlib
import functools
import itertools
import os
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np

from core import arguments, npy
from core.errors import DataError
from core.reading import reading
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import inputs

REQUIRED = ("paths", "hw", "offset", "boxes", "feat")
KINDS = {"paths": "U", "hw": "iu", "offset": "iu"}  # others are floats
SMALL = ("paths", "hw", "offset")  # read at once; the others image by image
# A zip member can only be read from its start, so a later part reads over the rows before it.
MAX_PARTS = 8  # of a file
CHUNK = 2**20


@contextlib.contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile]:
    with (
        reading(
            path,
            "not a readable .npz file",
            expected="an .npz archive without pickled objects",
            fix="check the path, or copy the file again",
        ),
        zipfile.ZipFile(path) as file,
    ):
        yield file


class _Member:
    """Rows of one array in a zip file, read forwards; the last one checks the file's CRC."""

    def __init__(self, file: zipfile.ZipFile, key: str):
        info = file.getinfo(f"{key}.npy")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{key}.npy is compressed by method {info.compress_type}")
        self.stream = file.open(info)
        self.header = npy.read_header(self.stream)
        self.shape, self.dtype = self.header.shape, self.header.dtype
        if self.dtype.hasobject:
            raise ValueError(f"{key}.npy holds pickled objects")
        if self.header.is_fortran and len(self.shape) > 1:
            raise ValueError(f"{key}.npy is in Fortran order, save np.ascontiguousarray of it")
        if self.header.nbytes >= info.file_size:
            raise ValueError(f"{key}.npy says {self.shape}, but has {info.file_size:,} bytes")

    def rows(self, count: int, limit: int = inputs.MAX_RECORD) -> np.ndarray:
        """The next rows, of at most `limit` bytes."""
        shape, nbytes = (count, *self.shape[1:]), count * self.header.row_nbytes
        if nbytes > limit:
            raise ValueError(f"{self.stream.name} has {nbytes:,} bytes at once, over {limit:,}")
        data = self.stream.read(nbytes)
        if len(data) < nbytes:
            raise EOFError(f"{self.stream.name} ends early")
        return np.frombuffer(data, self.dtype).reshape(shape)

    def skip(self, count: int) -> None:
        """Reads over rows."""
        left = count * self.header.row_nbytes
        while left:
            read = len(self.stream.read(min(left, CHUNK)))
            if not read:
                raise EOFError(f"{self.stream.name} ends early")
            left -= read


def head(path: str) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Checks the arrays of a file by their headers.

    Returns:
      {key: array} of the small ones, {key: numbers per row} of the large ones.

    Raises:
      DataError: naming file and key: unreadable, missing, of the wrong shape or kind.
    """
    with _opened(path) as file:
        found = sorted(name.removesuffix(".npy") for name in file.namelist())
        missing = [key for key in REQUIRED if key not in found]
        if missing:
            raise DataError(
                "an .npz file lacks keys",
                where=f"{path}, key {missing[0]!r}",
                expected=list(REQUIRED),
                found=found,
                fix="rename the arrays, see `python -m input_pipeline.importers npz --help`",
            )
        members = {k: _Member(file, k) for k in (*REQUIRED, "cls_prob") if k in found}
        _check_shapes(path, members)
        small = {k: members[k].rows(members[k].shape[0], inputs.MAX_LIST) for k in SMALL}
    offset, boxes = small["offset"], members["boxes"].shape[0]
    if offset[0] != 0 or offset[-1] != boxes or (np.diff(offset.astype(np.int64)) < 0).any():
        raise DataError(
            "the array 'offset' does not divide the boxes",
            where=f"{path}, key 'offset'",
            expected=f"from 0 to {boxes}, never falling",
            found=f"from {offset[0]} to {offset[-1]}, smallest step "
            f"{np.diff(offset.astype(np.int64)).min(initial=0)}",
        )
    return small, {key: m.shape[1] for key, m in members.items() if key not in SMALL}


def _check_shapes(path: str, members: dict[str, _Member]) -> None:
    images, boxes = (members[key].shape[:1] for key in ("paths", "boxes"))
    images, boxes = (shape[0] if shape else 0 for shape in (images, boxes))
    shapes = {
        "paths": (images,),
        "hw": (images, 2),
        "offset": (images + 1,),
        "boxes": (boxes, 4),
        "feat": (boxes + images, None),
        "cls_prob": (boxes, None),
    }
    for key, member in members.items():
        shape = shapes[key]
        fits = len(member.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, member.shape, strict=True)
        )
        if not fits or member.dtype.kind not in KINDS.get(key, "f"):
            kind = {"U": "text", "iu": "integers"}.get(KINDS.get(key), "floats")
            raise DataError(
                f"the array {key!r} has the wrong shape or type",
                where=f"{path}, key {key!r}",
                expected=f"{kind} {shape} for {images} images and {boxes} boxes (None = any)",
                found=f"{member.dtype} {member.shape}",
            )


class Layout:
    """See `importers.base.Layout`."""

    unit = "images"

    def __init__(self, files: Sequence[str], *, background_class: int):
        inputs.require_paths(files, folders=False)
        self._files = files
        self.background_class = None if background_class < 0 else background_class
        self._head = functools.lru_cache(maxsize=2)(head)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Options of this layout."""
        parser.add_argument(
            "--background_class",
            type=arguments.whole(-1),
            default=0,
            help="column of cls_prob, -1: there is none",
        )

    def parts(self, size: int) -> list[Part]:
        """Ranges of images of about the same number of boxes; checks all files' headers."""
        parts, first = [], None
        for number, path in enumerate(self._files):
            small, large = self._head(path)
            first, offset = first or large, small["offset"].astype(np.int64)
            if large != first:
                raise DataError(
                    "files of two kinds of features",
                    where=f"{self._files[0]} against {path}",
                    expected=f"columns {first}",
                    found=f"columns {large}",
                    fix="import features of one detector into one store",
                )
            count = min(MAX_PARTS, -(-os.path.getsize(path) // size))
            cuts = np.searchsorted(offset, offset[-1] * np.arange(1, count) / count)
            edges = np.unique([0, *cuts, len(offset) - 1]).tolist()
            parts += [Part(number, a, b) for a, b in itertools.pairwise(edges)]
        return parts

    def entries(self, part: Part) -> Iterator[tuple[str, tuple]]:
        """(where, (id, size, boxes, rows of feat, distributions or None)) of each image."""
        path = self._files[part.file]
        small, large = self._head(path)
        offset = small["offset"].astype(np.int64).tolist()
        with _opened(path) as file:
            boxes, feat = _Member(file, "boxes"), _Member(file, "feat")
            probs = _Member(file, "cls_prob") if "cls_prob" in large else None
            before = offset[part.start]
            boxes.skip(before)
            feat.skip(before + part.start)
            if probs:
                probs.skip(before)
            for i in range(part.start, part.stop):
                n = offset[i + 1] - offset[i]
                raw = (
                    str(small["paths"][i]),
                    small["hw"][i].tolist(),
                    boxes.rows(n),
                    feat.rows(n + 1),
                    probs.rows(n) if probs else None,
                )
                yield f"{path}, image number {i}", raw

    def parse(self, where: str, raw: tuple) -> Item:
        """One image; all that can be wrong with it is for the driver to find."""
        image_id, (height, width), boxes, feat, probs = raw
        return Item(
            image_id=image_id,
            height=height,
            width=width,
            boxes=boxes,
            features=feat[1:],
            class_probs=probs,
            global_feature=feat[0],
        )
