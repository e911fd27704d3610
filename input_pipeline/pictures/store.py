"""Picture store: the file of each picture, read at random by row, hash-checked at every read.

A store is a folder: `manifest.json`, `index.npz` (id, place, bytes, upright height and width, hash
of each picture) and flat shards, as a region store's. On gs:// the shards stay where they are.
"""

import io
import json
import os
import weakref
from collections.abc import Sequence

import numpy as np
import xxhash

from core import pictures, remote
from core.errors import DataError
from core.messages import brief
from core.reading import reading, unreadable
from core.strings import unpack_strings
from input_pipeline.pictures import writer
from input_pipeline.regions.image_index import ImageIndex
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
            raise self._broken(MANIFEST, f"format {writer.FORMAT}", manifest["format"])
        data = remote.local(self.path / writer.INDEX).read_bytes()
        if (found := xxhash.xxh3_64_hexdigest(data)) != manifest["index_xxh3"]:
            raise self._broken(writer.INDEX, f"hash {manifest['index_xxh3']}", found)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            self.index = {name: arrays[name] for name in (*writer.FIELDS, "keys", "key_ends")}
        self.fingerprint = writer.fingerprint(self.index)
        self.keys = unpack_strings(self.index["keys"], self.index["key_ends"])
        sizes = remote.sizes(self.path)
        names = [str(shard["file"]) for shard in manifest["shards"]]
        for name, shard in zip(names, manifest["shards"], strict=True):
            if sizes.get(name) != shard["bytes"]:
                raise self._broken(name, f"{shard['bytes']} bytes", sizes.get(name, "no such file"))
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
        index, count = self.index, len(self.keys)
        if any(index[name].shape != (count,) for name in writer.FIELDS) or not count:
            raise self._broken(writer.INDEX, "as many entries of all kinds", brief(count))
        shard, offset, nbytes = (index[name] for name in ("shard", "offset", "nbytes"))
        held = (shard >= 0) & (shard < len(sizes)) & (offset >= 0) & (nbytes >= 0)
        held &= (index["height"] >= 1) & (index["width"] >= 1)
        held &= offset + nbytes <= sizes[np.where(held, shard, 0)]
        if not held.all():
            row = int(np.flatnonzero(~held)[0])
            raise self._broken(writer.INDEX, "pictures that lie within their shards", f"row {row}")

    def _broken(self, file: str, expected: object, found: object) -> DataError:
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
        super().__init__([key for folder in folders for key in folder.keys])
        joined = {n: np.concatenate([f.index[n] for f in folders]) for n in writer.FIELDS}
        self._folders, self._index = folders, joined
        self._folder_of = np.repeat(np.arange(len(folders)), [len(f.keys) for f in folders])
        self.heights, self.widths = joined["height"], joined["width"]
        self.nbytes = int(joined["nbytes"].sum())
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
        store, first = cls(opened), {}
        if len(store._row) != len(store.keys):
            for path, folder in zip(paths, opened, strict=True):
                for key in folder.keys:
                    if first.setdefault(key, path) != path:
                        raise DataError(
                            "an image id is in two picture stores",
                            where=f"{first[key]} and {path}, image {key!r}",
                            expected="ids that occur once",
                            found="two pictures",
                            fix="name the stores once, or build them of different pictures",
                        )
        return store

    def where(self, row: int) -> str:
        """The place of a picture, for messages."""
        folder = self._folders[int(self._folder_of[row])]
        return f"{folder.path}, image {self.keys[row]!r} (row {row})"

    def read(self, row: int) -> bytes:
        """The file of a picture.

        Raises:
          DataError: it cannot be read, is cut short, or its hash differs.
        """
        folder = self._folders[int(self._folder_of[row])]
        shard, offset, nbytes = (
            int(self._index[name][row]) for name in ("shard", "offset", "nbytes")
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
        wanted, found = int(self._index["xxh3"][row]), xxhash.xxh3_64_intdigest(data)
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
