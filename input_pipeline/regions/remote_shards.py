"""Ranges of a region store's shards on gs://, many asked for at a time.

A read takes some 50 ms whatever its size, so the records of a batch are all asked for before the
first is waited for, and neighbours (blocks of `config.streams.<name>.block`) come in one range.
tensorstore sends the requests in threads of its own and repeats what fails for a moment (429, 5xx,
a lost connection) up to 32 times, waiting longer each time.
"""

import itertools
import threading
from collections.abc import Iterable, Sequence

import numpy as np
import tensorstore as ts

from core import remote
from core.errors import DataError

IN_FLIGHT = 512  # requests, of all threads together; more wait in a queue
LARGEST = 2**23  # bytes of a range that neighbours are joined to; larger ones come in parts
GAP = 2**16  # bytes between records that are rather read than asked around
AHEAD = 2**25  # bytes that reading one record after the other asks for at a time

Place = tuple[int, int, int]  # number of the shard, first byte, bytes


class RemoteShards:
    """The shards of one folder of a store."""

    def __init__(self, folder, files: Sequence[str], nbytes: Sequence[int]):
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
            context=ts.Context({"gcs_request_concurrency": {"limit": IN_FLIGHT}}),
        ).result()
        self._local = threading.local()

    def fetch(self, places: Iterable[Place]) -> dict[Place, np.ndarray]:
        """uint8 arrays of what is at places; one beyond the end of its shard is shorter.

        Raises:
          DataError: a shard is gone, or it cannot be read.
        """
        asked = [(joined, self._ask(*span)) for span, joined in spans(places)]
        found = {}
        for joined, (start, parts) in asked:
            data = self._answer(joined[0], parts)
            for place in joined:
                found[place] = data[place[1] - start :][: place[2]]
        return found

    def read(self, place: Place) -> np.ndarray:
        """The same of one place; what follows is read ahead where places follow each other."""
        shard, start, nbytes = place
        last, first, data = getattr(self._local, "block", (None, 0, ()))
        inside = last == shard and first <= start and start + nbytes <= first + len(data)
        if not inside:
            follows = getattr(self._local, "next", None) == (shard, start)
            size = max(nbytes, AHEAD if follows else 0)
            size = min(size, max(self._nbytes[shard] - start, nbytes))
            first, data = start, self._answer(place, self._ask(shard, start, size)[1])
            self._local.block = shard, first, data
        self._local.next = shard, start + nbytes
        return data[start - first :][:nbytes]

    def _ask(self, shard: int, start: int, nbytes: int):
        """(first byte, requests under way)."""
        bounds = [*range(start, start + nbytes, LARGEST), start + nbytes]
        return start, [
            self._store.read(self._files[shard], byte_range=slice(a, b))
            for a, b in itertools.pairwise(bounds)
        ]

    def _answer(self, place: Place, requests: Sequence) -> np.ndarray:
        where = f"{self._folder}/{self._files[place[0]]}, byte {place[1]}"
        try:
            results = [request.result() for request in requests]
        except Exception as error:  # tensorstore tells kinds apart by their text
            # Beyond the end is what a shard that was cut answers; its records fail their hash.
            if "OUT_OF_RANGE" in str(error):
                return np.empty(0, np.uint8)
            raise DataError(
                "region records cannot be read",
                where=where,
                expected="an answer of the bucket",
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


def spans(places: Iterable[Place]) -> list[tuple[Place, list[Place]]]:
    """The ranges to ask for, each with the places in it: close ones are joined up to LARGEST."""
    out: list[tuple[Place, list[Place]]] = []
    for place in sorted(set(places)):
        shard, start, nbytes = place
        if out:
            (last, first, size), joined = out[-1]
            wide = start + nbytes - first
            if last == shard and start - (first + size) <= GAP and wide <= LARGEST:
                out[-1] = (shard, first, max(size, wide)), [*joined, place]
                continue
        out.append((place, [place]))
    return out
