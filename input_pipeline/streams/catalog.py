"""The data of all streams of a run, each opened once, and what they must have in common."""

import json
from collections.abc import Collection, Iterable, Mapping

from ml_collections import ConfigDict

from core.console import say
from core.errors import DataError
from input_pipeline.regions.store import RegionStore
from input_pipeline.streams import clean_splits, held_out, leaks
from input_pipeline.streams.data import Data


class DataCatalog:
    """Opens the data of a stream when it is asked for first.

    Streams with equal blocks share one `Data`, and all that name the same folders one region store.
    The streams of a run share vocabulary and features, since they share word and region embeddings.
    """

    def __init__(self, config: ConfigDict, evaluated: Mapping[str, Collection[str]] | None = None):
        """Opens nothing.

        Args:
          config: of the run; read are streams, their `data`, what they lack of it, `data`, and
            whether the model sees pictures.
          evaluated: {stream: splits whose images no stream may train on}; "eval" where absent.
        """
        streams = config.streams.items()
        self._blocks = {name: block.get("data") or config.data for name, block in streams}
        self._keys = {name: _key(block) for name, block in self._blocks.items()}
        self._pixels = config.get("model", {}).get("features") == "pixels"
        self._evaluated = evaluated or {}
        self._active = [name for name, block in streams if block.batch_size]
        self._with_images = [name for name in self._active if config.streams[name].images]
        self._opened: dict[str, Data] = {}
        self._sure = False  # whether lists of ids are known to say whose they are
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
                elsewhere=lambda: self._evaluated_elsewhere(key),
                pixels=self._pixels,
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

    def check_clean(self) -> None:
        """Tells, once all training splits are read, what was kept out of them.

        Raises:
          DataError: a list in data.held_out that names no image of the run.
        """
        read = {name: data for name, data in self._trained().items() if data.cleaned}
        held_out.require_known(self._known(read.values()))
        if len(read) > 1 and any(block.leaks == "drop" for block in self._blocks.values()):
            say(clean_splits.table([(name, data.cleaned) for name, data in read.items()]))

    def _trained(self) -> dict[str, Data]:
        """{streams: their data} of those that train on images, each data once."""
        names: dict[str, list[str]] = {}
        for name in self._with_images:
            names.setdefault(self._keys[name], []).append(name)
        return {", ".join(found): self.of(found[0]) for found in names.values()}

    def _known(self, parts: Iterable[Data]) -> list[held_out.Known]:
        """What data know of images, where any names a list."""
        parts = list(parts)
        return [data.known() for data in parts] if any(data.lists for data in parts) else []

    def _store(self, folders: Collection[str]) -> RegionStore:
        key = tuple(map(str, folders))
        if key not in self._stores:
            self._stores[key] = RegionStore.open(folders)
        return self._stores[key]

    def _evaluated_elsewhere(self, key: str) -> list[leaks.HeldOut]:
        """What is evaluated of the data of other streams.

        Ids of images mean the same in one region store; elsewhere only names over data sets do.

        Raises:
          DataError: a list of ids alone for several collections of images.
        """
        if not self._sure:
            held_out.require_sure(self._known(self._trained().values()))
            self._sure = True
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
