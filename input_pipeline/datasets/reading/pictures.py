"""The pictures behind image ids, for reports and the doctor.

Training reads regions; a model that sees pictures reads them from a picture store (`pictures`).
"""

import filecmp
import os
import pathlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from core import remote
from core.errors import DataError
from core.ids import COCO_DIGITS, PICTURES, coco_digits, without_suffix
from input_pipeline.datasets.reading.prepared import Prepared
from input_pipeline.pictures import store
from input_pipeline.regions.store import split_paths

SUFFIXES = PICTURES

# lookup(image ids) -> {image id: bytes of its file}; an id without a picture is absent.
Lookup = Callable[[Iterable[str]], dict[str, bytes]]


def open_pictures(data_config, prepared: Prepared) -> Lookup:
    """Where the pictures of a data set are read from.

    Args:
      data_config: the `data` block of a config; `pictures` names a folder or picture stores.
      prepared: the data set; its own pictures are read where no folder is named.

    Returns:
      A `Lookup`. Each call reads the folder or table once, so ask for all pictures together.

    Raises:
      DataError: the folder is not there.
    """
    if data_config.pictures:
        folders = split_paths(data_config.pictures)
        if all(map(store.is_store, folders)):
            return of_store(store.PictureStore.open(folders))
        return of_folder(data_config.pictures, "the folder --config.data.pictures")
    return prepared.pictures or (lambda ids: {})


def of_store(pictures: store.PictureStore) -> Lookup:
    """The pictures of a picture store."""

    def read(image_ids: Iterable[str]) -> dict[str, bytes]:
        wanted = list(dict.fromkeys(image_ids))
        rows = pictures.rows_of(wanted).tolist()
        return {
            name: pictures.read(row) for name, row in zip(wanted, rows, strict=True) if row >= 0
        }

    return read


def of_folder(folder: str, what: str) -> Lookup:
    """The pictures in a folder, in any depth.

    Args:
      folder: of this machine.
      what: it is called in messages.

    Raises:
      DataError: it is not there.
    """
    remote.refuse(folder, what, "copy some with gcloud storage cp, or mount the bucket (gcsfuse)")
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise DataError(
            "no folder of pictures",
            where=what,
            expected=f"a folder with {', '.join(SUFFIXES)} files, in any depth",
            found=f"{root}, {'a file' if root.exists() else 'which is not there'}",
        )
    return lambda ids: read_folder(root, ids)


class PictureFolder:
    """Finds pictures in a folder, in any depth, by image id.

    An id finds the files of its name, with or without suffix, where an id with a folder
    ("movie/still.jpg") ends the path; and those of its COCO number: "139" finds
    COCO_val2014_000000000139.jpg. A number in fewer digits is no COCO name: train-7 is not val-7.
    """

    def __init__(self, root: pathlib.Path, wanted: Iterable[str] | None = None):
        """Walks the folder.

        Args:
          root: of the pictures.
          wanted: image ids to look for, so that of a folder of millions only the files that these
            may find are remembered; None: all files.
        """
        self._by_stem: dict[str, list[pathlib.Path]] = defaultdict(list)
        self._by_number: dict[str, list[pathlib.Path]] = defaultdict(list)
        stems = None if wanted is None else {without_suffix(_name(image_id)) for image_id in wanted}
        numbers = None if stems is None else {_number(stem) for stem in stems}
        for folder, name in _walk(str(root)):
            stem = without_suffix(name)
            if stems is None or stem in stems:
                self._by_stem[stem].append(pathlib.Path(folder, name))
            number = coco_digits(stem)
            if number and (numbers is None or number in numbers):
                self._by_number[number].append(pathlib.Path(folder, name))

    def __len__(self) -> int:
        return sum(map(len, self._by_stem.values()))

    def find(self, image_id: str) -> list[pathlib.Path]:
        """All files that answer to an id, sorted."""
        stem = without_suffix(_name(image_id))
        named = self._by_stem.get(stem, ())
        found = [p for p in named if _ends(p.with_name(without_suffix(p.name)), image_id)]
        if "/" not in image_id:
            numbered = self._by_number.get(_number(stem), ())
            found += [path for path in numbered if without_suffix(path.name) != stem]
        return sorted(found)


def read_folder(root: pathlib.Path, ids: Iterable[str]) -> dict[str, bytes]:
    """Reads pictures from a folder and those in it.

    An id finds the file at this path in `root`, else what `PictureFolder` finds.

    Args:
      root: of the pictures.
      ids: image ids.

    Raises:
      DataError: two files that differ answer to an id, or a file cannot be read.
    """
    found, wanted = {}, []
    for image_id in dict.fromkeys(ids):
        path = root / image_id.lstrip("/")
        # An id may be longer than any file's name: `path.is_file()` would raise.
        is_there = ".." not in path.parts and os.path.isfile(path)
        if path.suffix.lower() in SUFFIXES and is_there:
            found[image_id] = path
        else:
            wanted.append(image_id)
    # Walking takes minutes on a network disk: only for what its path does not tell.
    if wanted:
        folder = PictureFolder(root, wanted)
        for image_id in wanted:
            if paths := folder.find(image_id):
                found[image_id] = _only(image_id, paths)
    return {image_id: _read(path) for image_id, path in found.items()}


def _walk(root: str) -> Iterator[tuple[str, str]]:
    """(folder, name) of all pictures under a folder; links to folders are followed, once each."""
    todo, seen = [root], set()
    while todo:
        folder = todo.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            entries = os.scandir(folder)
        except PermissionError:  # a disk's lost+found; reports count what pictures they miss
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith("."):  # what systems and programs keep for themselves
                    continue
                if entry.name.lower().endswith(SUFFIXES):
                    yield folder, entry.name
                elif entry.is_dir():
                    todo.append(entry.path)


def _name(image_id: str) -> str:
    """An id without its folders."""
    return image_id.rpartition("/")[2]


def _number(name: str) -> str:
    """COCO's number in an id without suffix, in 12 digits; "" where it has none."""
    if name.isascii() and name.isdigit():
        return name.zfill(COCO_DIGITS) if len(name) <= COCO_DIGITS else ""
    return coco_digits(name)


def _ends(path: pathlib.Path, image_id: str) -> bool:
    """Whether a path without suffix ends in an id, counting whole names."""
    return f"/{path.as_posix()}".endswith(f"/{without_suffix(image_id).lstrip('/')}")


def _only(image_id: str, paths: list[pathlib.Path]) -> pathlib.Path:
    """The first of several copies of a picture; pictures that differ are an error."""
    for other in paths[1:]:
        if not filecmp.cmp(paths[0], other, shallow=False):
            raise DataError(
                "two pictures answer to an image id",
                where=f"--config.data.pictures, image {image_id!r}",
                expected="one file, or copies of it",
                found=f"{paths[0]} and {other}",
                fix="name the folder that has the data set's pictures alone",
            )
    return paths[0]


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            "a picture cannot be read", where=str(path), expected="a file", found=str(error)
        ) from error
