"""One folder of a region store, opened and checked: of this machine, or on gs://."""

import json
import os
import re
import resource
import weakref
from collections.abc import Callable

import numpy as np

from core import remote
from core.errors import DataError
from core.messages import brief
from core.reading import reading
from input_pipeline.regions import index_file
from input_pipeline.regions.region_writer import (
    FORMAT,
    INDEX_FIELDS,
    content_fingerprint,
)
from input_pipeline.regions.spec import FeatureSpec

SPARE = 512  # files that a process may open beside its shards
MANIFEST_KEYS = {"records": int, "fingerprint": str, "index_xxh3": str, "shards": list}
SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")  # a name beside the manifest


def _load_json(path: remote.Path) -> dict:
    """An object of a JSON file.

    Raises:
      DataError: it cannot be read, or holds something else.
    """
    with reading(
        str(path),
        "no readable region store",
        expected="a store written by input_pipeline.importers or RegionWriter",
        fix="check the path, or import the features again",
    ):
        value = json.loads(remote.local(path).read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"a {type(value).__name__}")
        return value


def _allow_open(count: int) -> None:
    """Raises this process's own limit on open files, mostly 1,024, where shards would not fit.

    12 million images have some 1,800; the system's limit stays.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(os.listdir("/dev/fd")) + count + SPARE
    if soft != resource.RLIM_INFINITY and wanted > soft:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)


class Folder:
    """One folder of a store: its spec, index and open shards.

    Attributes:
      index: arrays of INDEX_FIELDS and of the packed ids, perhaps mapped from their file.
      lookup: of the ids.
      files: open shards of this machine, [] on gs://.
      shards: `remote_shards.RemoteShards` on gs://, else None.
    """

    def __init__(self, folder: str):
        self.path = remote.path(folder)
        remote.require(folder, "region store")
        self.files: list[int] = []
        weakref.finalize(self, _close, self.files)
        with reading(
            str(self.path),
            "a region store is damaged",
            fix="copy the store again, or import the features again",
        ):
            self._open()

    def _open(self) -> None:
        path = self.path / "spec.json"
        self.spec = FeatureSpec.from_dict(_load_json(path), str(path))
        self.manifest = _load_json(self.path / "manifest.json")
        _check_manifest(self.manifest, self._broken)
        self.index, self.lookup = index_file.opened(
            self.path, self.manifest["index_xxh3"], INDEX_FIELDS, self._broken
        )
        self.fingerprint = content_fingerprint(self.spec, self.index)
        if self.fingerprint != self.manifest["fingerprint"]:
            raise self._broken(
                "spec.json", f"fingerprint {self.manifest['fingerprint']}", self.fingerprint
            )
        shards = self.manifest["shards"]
        _check_index(self.index, self.spec, shards, self._broken)
        sizes = remote.sizes(self.path)
        for shard in shards:
            size = sizes.get(shard["file"])
            if size != shard["bytes"]:
                raise self._broken(
                    shard["file"],
                    f"{shard['bytes']} bytes ({shard['records']} records)",
                    "no such file" if size is None else f"{size} bytes",
                )
        names = [shard["file"] for shard in shards]
        self.shards = None
        if remote.is_remote(self.path):
            from input_pipeline.regions.remote_shards import RemoteShards

            self.shards = RemoteShards(self.path, names, [shard["bytes"] for shard in shards])
        else:
            _allow_open(len(names))
            self.files.extend(os.open(self.path / name, os.O_RDONLY) for name in names)

    def _broken(self, file: str, expected: object, found: object) -> DataError:
        return DataError(
            "a region store is damaged",
            where=str(self.path / file),
            expected=expected,
            found=found,
            fix="copy the store again, or import the features again",
        )


def _check_manifest(manifest: dict, broken: Callable[..., DataError]) -> None:
    """Raises DataError unless a manifest says what this version reads, about files beside it."""
    name = "manifest.json"
    if manifest.get("format") != FORMAT:
        raise broken(name, f"format {FORMAT}", brief(manifest.get("format")))
    for key, kind in MANIFEST_KEYS.items():
        if not isinstance(manifest.get(key), kind):
            raise broken(
                name, f"{key!r}: a {kind.__name__}", brief(manifest.get(key, "no such key"))
            )
    for number, shard in enumerate(manifest["shards"]):
        file = shard.get("file") if isinstance(shard, dict) else None
        is_beside = isinstance(file, str) and SHARD_NAME.fullmatch(file)
        sizes = [shard.get(key) for key in ("records", "bytes")] if is_beside else []
        if not is_beside or not all(type(size) is int and size >= 0 for size in sizes):
            raise broken(
                name,
                "'shards' with file (beside it), records and bytes",
                f"{number}: {brief(shard)}",
            )


def _check_index(
    index: dict[str, np.ndarray],
    spec: FeatureSpec,
    shards: list[dict],
    broken: Callable[..., DataError],
) -> None:
    """Raises DataError unless every record of an index lies within its shard and fits the spec."""
    sizes = np.asarray([shard["bytes"] for shard in shards], np.int64)
    least = spec.record_nbytes(0)
    each = spec.record_nbytes(1) - least
    for part in index_file.parts(len(index["n"])):
        n, nbytes = (index[name][part] for name in ("n", "nbytes"))
        held = (n >= 1) & (nbytes == least + n.astype(np.int64) * each)
        held &= index_file.within(index, part, sizes)
        if not held.all():
            row = part.start + int(np.flatnonzero(~held)[0])
            raise broken(
                index_file.FILE,
                "records that lie within their shards and have the sizes of the spec",
                f"record {row}: " + ", ".join(f"{k} {index[k][row]}" for k in INDEX_FIELDS),
            )
