"""HDF5 files of regions: opening, which kind one is, ids of its images, one image's pieces.

The kinds are described in `importers.hdf5`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from core import safe_pickle
from core.errors import DataError
from core.reading import reading
from input_pipeline.importers.formats import fields, inputs
from input_pipeline.importers.formats.hdf5_data import Dataset, dataset, subgroup
from input_pipeline.importers.formats.sizes import HEIGHT, WIDTH

# Names of one thing in files of several makers; the first is what a piece calls it.
FEATURES = ("features", "image_features")
PIXELS = ("boxes", "image_bb", "bboxes", "bbox")
SHARES = ("spatial_features",)
CLASSES = ("cls_prob",)
COUNT = ("num_boxes",)
IDS = ("image_ids", "image_id", "img_id")
BOUNDS = ("pos_boxes",)  # first row and the one after the last of an image
SIZE = ("size",)  # [2] or [1, 2] height, width
PER_BOX = (FEATURES, PIXELS, SHARES, CLASSES)
PER_IMAGE = (COUNT, HEIGHT, WIDTH)


@contextlib.contextmanager
def opened(path: str) -> Iterator[h5py.File]:
    """An HDF5 file for reading.

    Raises:
      DataError: none, cut short, or damaged as far as HDF5 notices while it is in use.
    """
    with (
        reading(
            path,
            "not a readable HDF5 file",
            expected="a whole HDF5 file",
            fix="check the path, or copy the file again",
        ),
        # HDF5 unpacks a chunk of rows whole; without room for it, once for each of its rows.
        h5py.File(path, "r", rdcc_nbytes=2**26) as file,
    ):
        yield file


def column(group: h5py.Group, names: Sequence[str]) -> Dataset | None:
    """The first dataset of `names` that there is.

    Raises:
      DataError: it leads to other files; see `hdf5_data`.
    """
    return next((found for name in names if (found := dataset(group, name)) is not None), None)


def kind_of(file: h5py.File, path: str) -> str:
    """ "stacked", "joined", "groups" or "keys".

    Raises:
      DataError: another kind of file, or datasets that do not fit each other.
    """
    first = next(iter(file), "")
    features = column(file, FEATURES)
    if features is not None:
        kind = "joined" if column(file, BOUNDS) is not None else "stacked"
        _check_lengths(file, path, features, kind)
        return kind
    if first and subgroup(file, first) is not None:
        return "groups"
    if any(name.endswith("_features") for name in file):
        return "keys"
    raise DataError(
        "an HDF5 file of no known kind",
        where=path,
        expected="features or image_features, a group per image, or datasets ID_features",
        found=f"{len(file)} keys: {list(file)[:10]}",
        fix="see `python -m input_pipeline.importers hdf5 --help`; grids without boxes (ID_grids) "
        "are of the layout `grid`",
    )


def _check_lengths(file: h5py.File, path: str, features: Dataset, kind: str) -> None:
    axes, images = 3, len(features)
    bounds = column(file, BOUNDS)
    if kind == "joined" and bounds is not None:
        axes, images = 2, len(bounds)
        fields.array(bounds[:1], path, BOUNDS[0], (None, 2))
    if features.ndim != axes:
        raise DataError(
            "features have the wrong number of axes",
            where=f"{path}, {features.name}",
            expected="[N, m, F], or [n, F] with pos_boxes [N, 2]",
            found=features.shape,
        )
    lengths = dict.fromkeys(PER_BOX, len(features)) | dict.fromkeys((*PER_IMAGE, IDS), images)
    for names, length in lengths.items():
        found = column(file, names)
        if found is not None and found.shape[:1] != (length,):
            raise DataError(
                "two datasets differ in length",
                where=f"{path}, {found.name}",
                expected=f"{length} rows, as {features.name} has it",
                found=found.shape,
            )


def names_of(file: h5py.File, path: str, kind: str, id_file: str) -> list[str]:
    """Image ids by row, or those that groups and datasets are named by.

    Raises:
      DataError: no images, or ids that are missing or given twice.
    """
    ids = column(file, IDS)
    keyed = {"groups": "", "keys": "_features"}.get(kind)
    sources = [source for source in (id_file, keyed is not None, ids is not None) if source]
    if len(sources) != 1:
        raise DataError(
            "image ids from two places" if sources else "the image ids of the rows are not known",
            where=path,
            expected=f"a dataset {' or '.join(IDS)}, or --id_map",
            found=f"a file of the kind {kind!r} and --id_map {id_file!r}",
            fix="leave out --id_map" if sources else "pass --id_map (as train36_imgid2idx.pkl)",
        )
    if keyed is not None:
        names = [name.removesuffix(keyed) for name in file if name.endswith(keyed)]
    elif ids is not None:
        values = enumerate(ids.texts())
        names = [fields.image_id(v, f"{path}, {ids.name}[{i}]") for i, v in values]
    else:
        rows = column(file, BOUNDS if kind == "joined" else FEATURES)
        names = read_id_map(id_file, len(rows), path)
    if not names:
        raise DataError("an input has no images", where=path, expected="one or more", found="none")
    return names


def read_id_map(path: str, rows: int, source: str) -> list[str]:
    """Image ids by row, from a .pkl or .json of {id: row} or of the ids in order.

    Args:
      path: the map.
      rows: images of the file it belongs to.
      source: that file, for messages.

    Raises:
      DataError: unreadable, or not exactly one id for each row.
    """
    inputs.require_paths([path], folders=False)
    with open(path, "rb") as file:
        data = file.read()
    is_json = path.endswith(".json")
    value = (
        fields.json_value(data, path, object, None) if is_json else safe_pickle.loads(data, path)
    )
    if isinstance(value, list):
        value = {name: row for row, name in enumerate(value)}
    if not isinstance(value, dict):
        raise fields.bad_field(path, "id_map", "{id: row}", type(value).__name__)
    names: dict[int, str] = {}
    for name, row in value.items():
        row = fields.integer(row, f"{path}, id {name!r}", "row", 0)
        names[row] = fields.image_id(name, path)
    if len(value) != rows or sorted(names) != list(range(rows)):
        raise DataError(
            "a map of image ids does not fit its file",
            where=f"{path} for {source}",
            expected=f"{rows} ids, one for each row from 0 to {rows - 1}",
            found=f"{len(value)} ids of {len(names)} rows, {min(names, default=None)} to "
            f"{max(names, default=None)}",
            fix="check the order of --id_map and of the inputs",
        )
    return [names[row] for row in range(rows)]


def bytes_an_image(file: h5py.File, kind: str, names: list[str]) -> int:
    """About the bytes of an image's features, by which parts are cut."""
    if kind in ("groups", "keys"):
        pattern = f"{names[0]}/{{}}" if kind == "groups" else f"{names[0]}_{{}}"
        sample = column(file, [pattern.format(name) for name in FEATURES])
        return 1 if sample is None else max(1, sample.nbytes)
    return max(1, column(file, FEATURES).nbytes // len(names))


def pieces(file: h5py.File, path: str, kind: str, row: int, name: str) -> dict[str, Any]:
    """{first of its names: array} of one image, as much as there is.

    Raises:
      DataError: bounds that are outside the boxes.
    """
    group, bounds, pattern = file, row, "{}"
    if kind == "groups":
        found_group, bounds = subgroup(file, name), ()
        if found_group is None:
            return {}
        group = found_group
    elif kind == "keys":
        pattern, bounds = f"{name}_{{}}", ()
    elif kind == "joined":
        start, stop = column(file, BOUNDS)[row].tolist()
        boxes = len(column(file, FEATURES))
        if not 0 <= start <= stop <= boxes:
            raise DataError(
                "pos_boxes point outside the boxes",
                where=f"{path}, image {name!r}, pos_boxes[{row}]",
                expected=f"0 <= start <= stop <= {boxes}",
                found=[start, stop],
            )
        bounds = slice(start, stop)
    out = {}
    for names in (*PER_BOX, *PER_IMAGE):
        found = column(group, [pattern.format(key) for key in names])
        if found is not None:
            value = np.asarray(found[row if kind == "joined" and names in PER_IMAGE else bounds])
            out[names[0]] = value.item() if names in PER_IMAGE and value.size == 1 else value
    size = column(group, [pattern.format(key) for key in SIZE])
    if kind in ("groups", "keys") and size is not None and size.size == 2:
        out[HEIGHT[0]], out[WIDTH[0]] = np.ravel(size[()]).tolist()
    return out
