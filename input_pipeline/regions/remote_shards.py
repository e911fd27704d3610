"""Concurrent range reads of a region store's shards on gs://.

A read takes some 50 ms whatever its size, so all records of a batch are requested before the
first is waited for, and neighbours (blocks of `config.streams.<name>.block`) are coalesced into
one range.
tensorstore sends the requests in threads of its own and retries transient errors (429, 5xx, a lost
connection) up to 32 times with growing delays.
"""

import itertools
import threading
from collections.abc import Iterable, Sequence

import numpy as np
import tensorstore as ts

from core import remote
from core.errors import DataError

MAX_IN_FLIGHT = 512  # requests of all threads together; more wait in a queue
MAX_RANGE = 2**23  # bytes; neighbours are coalesced up to it, larger ranges are split
MAX_GAP = 2**16  # bytes between records; gaps up to this are coalesced
READ_AHEAD = 2**25  # bytes requested at a time by sequential reads

Place = tuple[int, int, int]  # number of the shard, first byte, bytes


class RemoteShards:
    """The shards of one folder of a store."""

    def __init__(self, folder: str | remote.Path, files: Sequence[str], nbytes: Sequence[int]):
        """Opens nothing yet.

        Args:
          folder: gs://.
          files: names of the shards.
          nbytes: their sizes.
        """
        self._folder, self._files, self._nbytes = folder, files, nbytes
        _, _, bucket, *below = remote.path(folder).parts
        self._store = ts.KvStore.open(
            {"driver": "gcs", "bucket": bucket, "path": "".join(f"{part}/" for part in below)},
            context=ts.Context({"gcs_request_concurrency": {"limit": MAX_IN_FLIGHT}}),
        ).result()
        self._local = threading.local()

    def fetch(self, places: Iterable[Place]) -> dict[Place, np.ndarray]:
        """uint8 arrays of what is at places; one beyond the end of its shard is shorter.

        Raises:
          DataError: a shard is gone, or it cannot be read.
        """
        requested = [(joined, self._request(*span)) for span, joined in coalesce(places)]
        found = {}
        for joined, (start, parts) in requested:
            data = self._result(joined[0], parts)
            for place in joined:
                found[place] = data[place[1] - start :][: place[2]]
        return found

    def read(self, place: Place) -> np.ndarray:
        """uint8 array of what is at one place; sequential reads are read ahead."""
        shard, start, nbytes = place
        last, first, data = getattr(self._local, "block", (None, 0, ()))
        inside = last == shard and first <= start and start + nbytes <= first + len(data)
        if not inside:
            follows = getattr(self._local, "next", None) == (shard, start)
            size = max(nbytes, READ_AHEAD if follows else 0)
            size = min(size, max(self._nbytes[shard] - start, nbytes))
            first, data = start, self._result(place, self._request(shard, start, size)[1])
            self._local.block = shard, first, data
        self._local.next = shard, start + nbytes
        return data[start - first :][:nbytes]

    def _request(self, shard: int, start: int, nbytes: int) -> tuple[int, list[ts.Future]]:
        """(first byte, requests in flight)."""
        bounds = [*range(start, start + nbytes, MAX_RANGE), start + nbytes]
        return start, [
            self._store.read(self._files[shard], byte_range=slice(a, b))
            for a, b in itertools.pairwise(bounds)
        ]

    def _result(self, place: Place, requests: Sequence) -> np.ndarray:
        where = f"{self._folder}/{self._files[place[0]]}, byte {place[1]}"
        try:
            results = [request.result() for request in requests]
        except Exception as error:  # tensorstore has no types of errors, only texts
            # A truncated shard ends before the range; its records fail their hash.
            if "OUT_OF_RANGE" in str(error):
                return np.empty(0, np.uint8)
            raise DataError(
                "region records cannot be read",
                where=where,
                expected="the bytes of the range",
                found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
                fix="check the bucket's permissions (gcloud storage ls) and the network",
            ) from error
        if any(result.state != "value" for result in results):
            raise DataError(
                "a shard of a region store is gone",
                where=where,
                expected="the object that was there when the store was opened",
                found="no such object",
                fix="copy the store again, or import the features again",
            )
        data = results[0].value if len(results) == 1 else b"".join(r.value for r in results)
        return np.frombuffer(data, np.uint8)


def coalesce(places: Iterable[Place]) -> list[tuple[Place, list[Place]]]:
    """The ranges to request, each with its places: close ones are coalesced up to MAX_RANGE."""
    out: list[tuple[Place, list[Place]]] = []
    for place in sorted(set(places)):
        shard, start, nbytes = place
        if out:
            (last, first, size), joined = out[-1]
            wide = start + nbytes - first
            if last == shard and start - (first + size) <= MAX_GAP and wide <= MAX_RANGE:
                out[-1] = (shard, first, max(size, wide)), [*joined, place]
                continue
        out.append((place, [place]))
    return out
