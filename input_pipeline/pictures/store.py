"""Picture store: the file of each picture, read at random by row, hash-checked at every read.

A store is a folder: `manifest.json`, `index.npz` (id, place, bytes, upright height and width, hash
of each picture) and flat shards, as a region store's. On gs:// the shards stay where they are.
"""

import json
import os
import weakref
from collections.abc import Sequence

import numpy as np
import xxhash

from core import pictures, remote
from core.errors import DataError
from core.reading import reading, unreadable
from input_pipeline.pictures import writer
from input_pipeline.regions import index_file
from input_pipeline.regions.image_index import ImageIndex, joined
from input_pipeline.regions.shard_writer import MANIFEST
from input_pipeline.regions.store import split_paths

_FIX = "copy the store again, or build it again (python -m input_pipeline.pictures build)"


def is_store(folder: str | os.PathLike) -> bool:
    """Whether a folder is a picture store, complete or damaged."""
    try:
        found = json.loads((remote.path(folder) / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == writer.KIND


class _Folder:
    """One folder of a store, opened and checked."""

    def __init__(self, folder: str):
        remote.require(folder, "picture store")
        self.path = remote.path(folder)
        self.files: list[int] = []
        weakref.finalize(self, lambda files: [os.close(file) for file in files], self.files)
        if not is_store(folder):
            raise DataError(
                "no picture store",
                where=folder,
                expected="a folder that `python -m input_pipeline.pictures build` has written",
                found="no such folder"
                if not self.path.exists()
                else "a folder of something else"
                if self.path.is_dir()
                else "a file",
                fix=f"python -m input_pipeline.pictures build {folder} --out=STORE",
            )
        with reading(folder, "a picture store is damaged", fix=_FIX):
            self._open()

    def _open(self) -> None:
        manifest = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != writer.FORMAT:
            raise self.broken(MANIFEST, f"format {writer.FORMAT}", manifest["format"])
        self.index, self.lookup = index_file.opened(
            self.path, manifest["index_xxh3"], writer.FIELDS, self.broken
        )
        self.fingerprint = writer.fingerprint(self.index)
        sizes = remote.sizes(self.path)
        names = [str(shard["file"]) for shard in manifest["shards"]]
        for name, shard in zip(names, manifest["shards"], strict=True):
            if sizes.get(name) != shard["bytes"]:
                raise self.broken(name, f"{shard['bytes']} bytes", sizes.get(name, "no such file"))
        self._check_index(np.asarray([shard["bytes"] for shard in manifest["shards"]], np.int64))
        self.shards = None
        if remote.is_remote(self.path):
            from input_pipeline.regions.remote_shards import RemoteShards

            nbytes = [shard["bytes"] for shard in manifest["shards"]]
            self.shards = RemoteShards(self.path, names, nbytes)
        else:
            self.files.extend(os.open(self.path / name, os.O_RDONLY) for name in names)

    def _check_index(self, sizes: np.ndarray) -> None:
        """Raises DataError unless every picture lies within its shard."""
        for part in index_file.parts(len(self.lookup.keys)):
            held = index_file.within(self.index, part, sizes)
            if not held.all():
                row = part.start + int(np.flatnonzero(~held)[0])
                raise self.broken(
                    index_file.FILE, "pictures that lie within their shards", f"row {row}"
                )

    def broken(self, file: str, expected: object, found: object) -> DataError:
        return DataError(
            "a picture store is damaged",
            where=str(self.path / file),
            expected=expected,
            found=found,
            fix=_FIX,
        )


class PictureStore(ImageIndex):
    """Pictures in one or several folders.

    Attributes:
      keys: image ids by row.
      heights, widths: int32 [N] of the upright pictures, in pixels.
      nbytes: of all files.
      fingerprint: hex digest of the contents.
    """

    def __init__(self, folders: Sequence[_Folder]):
        super().__init__([folder.lookup for folder in folders])
        self._folders = folders
        self.heights, self.widths = (
            joined([folder.index[name] for folder in folders]) for name in ("height", "width")
        )
        self.nbytes = sum(int(folder.index["nbytes"].sum()) for folder in folders)
        text = "".join(folder.fingerprint for folder in folders)
        self.fingerprint = text if len(folders) == 1 else xxhash.xxh3_128_hexdigest(text.encode())

    @classmethod
    def open(cls, folders: str | os.PathLike | Sequence[str]) -> "PictureStore":
        """Opens a store.

        Args:
          folders: a path, several separated by commas, or a list; rows are numbered through.

        Raises:
          DataError: no folder, no picture store, a damaged one, or an id in two of them.
        """
        paths = split_paths(folders)
        if not paths:
            raise DataError(
                "no picture store is named",
                expected="one or more folders",
                found=repr(folders),
                fix="python -m input_pipeline.pictures build FOLDER --out=STORE, then "
                "--config.data.pictures=STORE",
            )
        opened = [_Folder(path) for path in paths]
        store = cls(opened)
        store.check_unique(
            paths, "picture store", "name the stores once, or build them of different pictures"
        )
        return store

    def misleading(self, number: int) -> DataError:
        """The error of a folder, by its number, whose index does not find its pictures."""
        found = "hashes of other ids"
        return self._folders[number].broken(index_file.FILE, "the hashes of its ids", found)

    def where(self, row: int) -> str:
        """The place of a picture, for messages."""
        folder = self._folders[self.place_of(row)[0]]
        return f"{folder.path}, image {self.keys[row]!r} (row {row})"

    def read(self, row: int) -> bytes:
        """The file of a picture.

        Raises:
          DataError: it cannot be read, is cut short, or its hash differs.
        """
        number, at = self.place_of(row)
        folder = self._folders[number]
        shard, offset, nbytes, wanted = (
            folder.index[name].item(at) for name in ("shard", "offset", "nbytes", "xxh3")
        )
        if folder.shards:
            data = folder.shards.read((shard, offset, nbytes)).tobytes()
        else:
            try:
                data = os.pread(folder.files[shard], nbytes, offset)
            except OSError as error:
                raise unreadable(
                    self.where(row), error, "a picture cannot be read", fix="check the disk"
                ) from error
        found = xxhash.xxh3_64_intdigest(data)
        if found != wanted:
            raise DataError(
                "a picture of a store is damaged",
                where=self.where(row),
                expected=f"{nbytes:,} bytes with xxh3 {wanted:016x}",
                found=f"{len(data):,} bytes with xxh3 {found:016x}",
                fix=_FIX,
            )
        return data

    def pixels(self, row: int, resize: tuple[int, int] | None = None) -> np.ndarray:
        """A picture as uint8 RGB [H, W, 3], upright; see `core.pictures.decoded`."""
        return pictures.decoded(self.read(row), self.where(row), _FIX, resize=resize)
