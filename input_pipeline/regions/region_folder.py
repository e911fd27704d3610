"""One folder of a region store, opened and checked: of this machine, or on gs://."""

import io
import json
import os
import weakref
from typing import Any

import numpy as np
import xxhash

from core import remote
from core.errors import DataError
from core.strings import unpack_strings
from input_pipeline.regions.region_writer import (
    FORMAT,
    INDEX_FIELDS,
    content_fingerprint,
)
from input_pipeline.regions.spec import FeatureSpec


def _load_json(path: remote.Path) -> Any:
    try:
        return json.loads(remote.local(path).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            "no readable region store",
            where=str(path),
            expected="a store written by input_pipeline.importers or RegionWriter",
            found=f"{type(error).__name__}: {error}",
            fix="check the path, or import the features again",
        ) from error


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)


class Folder:
    """One folder of a store: its spec, index and open shards.

    Attributes:
      files: open shards of this machine, [] on gs://.
      shards: `remote_shards.RemoteShards` on gs://, else None.
    """

    def __init__(self, folder: str):
        self.path = remote.path(folder)
        remote.require(folder, "region store")
        self.spec = FeatureSpec.from_dict(
            _load_json(self.path / "spec.json"), str(self.path / "spec.json")
        )
        self.manifest = _load_json(self.path / "manifest.json")
        if self.manifest.get("format") != FORMAT:
            raise self._broken("manifest.json", f"format {FORMAT}", self.manifest.get("format"))
        try:
            data = remote.local(self.path / "index.npz").read_bytes()
        except OSError as error:
            raise self._broken("index.npz", "a readable file", str(error)) from error
        found = xxhash.xxh3_64_hexdigest(data)
        if found != self.manifest["index_xxh3"]:
            raise self._broken("index.npz", f"hash {self.manifest['index_xxh3']}", f"hash {found}")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            self.index = {name: arrays[name] for name in (*INDEX_FIELDS, "keys", "key_ends")}
        self.fingerprint = content_fingerprint(self.spec, self.index)
        if self.fingerprint != self.manifest["fingerprint"]:
            raise self._broken(
                "spec.json", f"fingerprint {self.manifest['fingerprint']}", self.fingerprint
            )
        self.keys = unpack_strings(self.index["keys"], self.index["key_ends"])
        self.files, self.shards = [], None
        weakref.finalize(self, _close, self.files)
        sizes = remote.sizes(self.path)
        for shard in self.manifest["shards"]:
            size = sizes.get(shard["file"])
            if size != shard["bytes"]:
                raise self._broken(
                    shard["file"],
                    f"{shard['bytes']} bytes ({shard['records']} records)",
                    "no such file" if size is None else f"{size} bytes",
                )
        names = [shard["file"] for shard in self.manifest["shards"]]
        if remote.is_remote(self.path):
            from input_pipeline.regions.remote_shards import RemoteShards

            nbytes = [shard["bytes"] for shard in self.manifest["shards"]]
            self.shards = RemoteShards(self.path, names, nbytes)
        else:
            self.files.extend(os.open(self.path / name, os.O_RDONLY) for name in names)

    def _broken(self, file: str, expected: object, found: object) -> DataError:
        return DataError(
            "a region store is damaged",
            where=str(self.path / file),
            expected=expected,
            found=found,
            fix="copy the store again, or import the features again",
        )
