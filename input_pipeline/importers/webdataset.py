"""WebDataset shards: .tar files in which the members of one image share a name.

  python -m input_pipeline.importers webdataset shards/{00000..00099}.tar --out STORE
  python -m input_pipeline.importers webdataset clip.tar --grid 16x16 --prefix 1 --out STORE \
      --columns features=clip.pt,height=original_height,width=original_width

Input: .tar, .tar.gz and .tgz files, or folders of them. Members NAME.json, NAME.npy,
NAME.boxes.npy and so on, one after the other, are one image; NAME (up to the first dot, folders
included) is its id, unless the JSON has image_id or img_id.

  .json           its keys are fields: width, height, boxes, ...
  X.npy, X.pt, X.pth, X.pyd, X.pickle, X.pkl   an array or tensor; the field is X, or features where
                  there is no X. A dictionary of arrays gives its keys
  X.npz, X.safetensors   their arrays are fields
  others          (.jpg, .txt, .cls) are not read

`--columns NAME=FIELD,...` says which field holds what, X or X.npy; without it the names are those
of the layout `parquet`: features, boxes, height, width, num_boxes, cls_prob, global_feature.
Without boxes, `--grid` makes features those of a grid's cells or patches. Nothing in a tensor or
a pickle is run.
"""

import argparse
import os
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

from core import npy
from core.errors import DataError
from core.reading import reading
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats import columns as named
from input_pipeline.importers.formats import fields, npz_file, safetensors_file, torch_file
from input_pipeline.importers.formats.members import MAX_MEMBER, expanded

TARS = (".tar", ".tar.gz", ".tgz")
PICKLES = (".pyd", ".pickle", ".pkl")
READ = (".json", ".npz", ".safetensors", ".npy", ".pt", ".pth", *PICKLES)

# {name behind the first dot: bytes} of one image
Sample = dict[str, bytes]


class Layout:
    """See the module, and `base.Layout`."""

    unit = "bytes"
    background_class = 0

    def __init__(self, files: Sequence[str], **options: Any):
        self._columns = named.Columns.parse(**options)
        self._files = expanded(files, TARS, "archive")
        for path in self._files:
            if next(_samples(path), None) is None:
                raise DataError(
                    "an input holds no images of this layout",
                    where=path,
                    expected=f"members that end in one of {list(READ)}",
                    found="none",
                )

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """See `base.Layout`."""
        named.add_arguments(parser)

    def parts(self, size: int) -> list[Part]:
        """A part is a file: an archive is read from its start."""
        del size
        return [Part(i, 0, os.path.getsize(path)) for i, path in enumerate(self._files)]

    def entries(self, part: Part) -> Iterator[tuple[str, tuple[str, Sample]]]:
        """See `base.Layout`; raw is (name of the members, their bytes)."""
        path = self._files[part.file]
        for name, sample in _samples(path):
            yield f"{path}@/{name}", (name, sample)

    def parse(self, where: str, raw: tuple[str, Sample]) -> Item:
        """See `base.Layout`."""
        name, sample = raw
        record: dict[str, Any] = {"__key__": name}
        for ending in sorted(sample, key=lambda ending: not ending.endswith("json")):
            record |= _fields(ending, sample[ending], f"{where}.{ending}")
        return self._columns.item(record, where)


def _fields(ending: str, data: bytes, where: str) -> dict[str, Any]:
    """{field: value} of a member."""
    stem, suffix = os.path.splitext(f".{ending}" if "." not in ending else ending)
    if not suffix:
        stem, suffix = "", stem
    if suffix == ".json":
        return fields.json_value(data, where)
    if suffix == ".npz":
        return npz_file.load(data, where=where)
    if suffix == ".safetensors":
        tensors = safetensors_file.Tensors(where, data)
        return {name: tensors.read(name) for name in tensors.names}
    if suffix in PICKLES:
        value = torch_file.unpickle(data, where)
    else:
        value = (npy.load if suffix == ".npy" else torch_file.loads)(data, where)
    if isinstance(value, dict):
        return {str(key): item for key, item in value.items()}
    return {stem or "features": value, ending: value}


def _samples(path: str) -> Iterator[tuple[str, Sample]]:
    """(name, members) of each image of an archive.

    Raises:
      DataError: the archive cannot be read on.
    """
    name, sample = "", Sample()
    with (
        reading(
            path,
            "not a readable tar archive",
            expected="a whole .tar, packed by gzip or not at all",
            fix="check the path, or copy the file again",
        ),
        tarfile.open(path, "r:*") as archive,
    ):
        for member in archive:
            folder, slash, file = member.name.rpartition("/")
            stem, _, ending = file.partition(".")
            ending = ending.lower()
            if not member.isreg() or not stem or not f".{ending}".endswith(READ):
                continue
            if member.issparse() or member.size > MAX_MEMBER:
                raise ValueError(f"member {member.name!r} of {member.size} bytes")
            if folder + slash + stem != name:
                if sample:
                    yield name, sample
                name, sample = folder + slash + stem, Sample()
            if ending in sample:
                raise ValueError(f"member {member.name!r} occurs twice")
            data = archive.extractfile(member).read(member.size + 1)
            if len(data) != member.size:
                raise EOFError(f"{len(data)} of {member.size} bytes of {member.name!r}")
            sample[ending] = data
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("cut short: no empty block at its end")
    if sample:
        yield name, sample
