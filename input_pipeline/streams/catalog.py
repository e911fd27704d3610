"""The data of all streams of a run, each opened once, and what they must have in common."""

import json
from collections.abc import Collection, Mapping

from ml_collections import ConfigDict

from core.errors import DataError
from input_pipeline.regions.store import RegionStore
from input_pipeline.streams import leaks
from input_pipeline.streams.data import Data


class DataCatalog:
    """Opens the data of a stream when it is asked for first.

    Streams with equal blocks share one `Data`, and all that name the same folders one region store.
    The streams of a run share vocabulary and features, since they share word and region embeddings.
    """

    def __init__(self, config: ConfigDict, evaluated: Mapping[str, Collection[str]] | None = None):
        """Opens nothing.

        Args:
          config: of the run; read are streams, their `data`, and what they lack of it, `data`.
          evaluated: {stream: splits whose images no stream may train on}; "eval" where absent.
        """
        streams = config.streams.items()
        self._blocks = {name: block.get("data") or config.data for name, block in streams}
        self._keys = {name: _key(block) for name, block in self._blocks.items()}
        self._evaluated = evaluated or {}
        self._active = [name for name, block in streams if block.batch_size]
        self._opened: dict[str, Data] = {}
        self._first = ""  # stream whose data was opened first
        self._stores: dict[tuple[str, ...], RegionStore] = {}

    def of(self, stream: str) -> Data:
        """The data of a stream.

        Raises:
          DataError: whatever is wrong with them, or another vocabulary or other features than
            those of the streams before.
        """
        key = self._keys[stream]
        if key not in self._opened:
            splits = {
                split
                for name, other in self._keys.items()
                if other == key
                for split in self._evaluated.get(name, ("eval",))
            }
            data = Data(
                self._blocks[stream],
                splits,
                open_store=self._store,
                held_out=lambda: self._evaluated_elsewhere(key),
            )
            if self._opened:
                self._require_alike(stream, data)
            else:
                self._first = stream
            self._opened[key] = data
        return self._opened[key]

    def block(self, stream: str) -> ConfigDict:
        """The `data` block of a stream."""
        return self._blocks[stream]

    def _store(self, folders: Collection[str]) -> RegionStore:
        key = tuple(map(str, folders))
        if key not in self._stores:
            self._stores[key] = RegionStore.open(folders)
        return self._stores[key]

    def _evaluated_elsewhere(self, key: str) -> list[leaks.HeldOut]:
        """What is evaluated of the data of other streams.

        Ids of images mean the same in one region store; elsewhere only names over data sets do.
        """
        store, held = self._opened[key].store, []
        for other, name in {self._keys[name]: name for name in self._active}.items():
            if other != key:
                data = self.of(name)
                held += data.evaluated_images(by_id=data.store is store)
        return held

    def _require_alike(self, stream: str, data: Data) -> None:
        first = self._opened[self._keys[self._first]]
        for what, mine, other, option in (
            ("vocabulary", _vocabulary(data), _vocabulary(first), "vocab"),
            ("region features", str(data.spec), str(first.spec), "regions"),
        ):
            if mine != other:
                raise DataError(
                    f"the streams of a run must have one {what}",
                    where=f"config.streams.{stream}.data.{option}, against stream {self._first!r}",
                    expected=other,
                    found=mine,
                    fix=f"name the same one for all: --config.data.{option}=..."
                    if option == "vocab"
                    else "import the features of all images with one detector",
                )


def _vocabulary(data: Data) -> str:
    return f"{len(data.tokenizer.vocab)} pieces, digest {data.tokenizer.fingerprint}"


def _key(block: ConfigDict) -> str:
    """Text that is equal for equal blocks."""
    return json.dumps(block.to_dict(), default=list, sort_keys=True)
