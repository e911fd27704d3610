"""Images by their ids: the region store that they are looked up in, and their pictures."""

import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Sequence

from ml_collections import ConfigDict

from core.console import warn
from core.errors import DataError, UserError
from input_pipeline import datasets
from input_pipeline.datasets.reading import pictures
from input_pipeline.regions import RegionStore
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.regions.store import split_paths


class Pictures:
    """Pictures by the ids of images, each read once, when it is first asked for."""

    def __init__(self, lookup: pictures.Lookup):
        self._lookup, self._known = lookup, dict[str, bytes | None]()

    @classmethod
    def of_folder(cls, folder: str) -> "Pictures":
        """Those in a folder, in any depth; raises DataError where there is none."""
        return cls(pictures.of_folder(folder, "the folder of pictures"))

    def of(self, ids: Iterable[str]) -> dict[str, bytes | None]:
        """{id: bytes of its file, None without one}; asked together, a folder is read once."""
        ids = list(dict.fromkeys(ids))
        new = [key for key in ids if key not in self._known]
        if new:
            found = self._lookup(new)
            self._known |= {key: found.get(key) for key in new}
        return {key: self._known[key] for key in ids}


@dataclasses.dataclass(frozen=True, eq=False)
class NamedImages:
    """Images with ids.

    Attributes:
      store: their regions.
      pictures: of them, as far as there are any.
    """

    store: RegionStore
    pictures: Pictures | None = None

    @classmethod
    def of_store(
        cls,
        store: RegionStore | str | os.PathLike | Sequence[str],
        spec: FeatureSpec,
        shown: Pictures | None = None,
    ) -> "NamedImages":
        """Those of a store, or of the folders of one.

        Args:
          store: the regions.
          spec: of the features that the model was trained on.
          shown: their pictures.

        Raises:
          DataError: no such store, or one with other features.
        """
        if not isinstance(store, RegionStore):
            store = RegionStore.open(store)
        spec.require_match(store.spec, "the model", "the region store")
        return cls(store, shown)


class OwnImages:
    """Images of the data sets that a run was trained on, opened when they are first asked for.

    Threads may share it.
    """

    def __init__(self, config: ConfigDict, spec: FeatureSpec, place: str):
        """Opens nothing.

        Args:
          config: of the run.
          spec: of the features that the model was trained on.
          place: of the model, for messages.
        """
        self._config, self._spec, self._place = config, spec, place
        self._lock, self._opened = threading.Lock(), dict[str, NamedImages]()

    def of(self, stream: str) -> NamedImages:
        """Those of the data set of a stream.

        Raises:
          DataError: it is not here, or its features are others than the model was trained on.
        """
        block = self._config.streams[stream].get("data") or self._config.data
        with self._lock:
            key = block.to_json_best_effort()
            if key not in self._opened:
                self._opened[key] = self._open(block)
            return self._opened[key]

    def _open(self, block: ConfigDict) -> NamedImages:
        folders, lookup = split_paths(block.regions), None
        try:
            if not folders:
                prepared = datasets.prepare(block)
                folders, lookup = list(prepared.stores), prepared.pictures
            found = NamedImages.of_store(folders, self._spec)
        except UserError as error:
            raise DataError(
                "an image is named by its id, and the data set of the run is not here to look it "
                "up in",
                where=self._place,
                found=str(error),
                fix="name the region store: load(place, regions=STORE), or on the command line "
                "--regions=STORE",
            ) from error
        return dataclasses.replace(found, pictures=_pictures(block.pictures, lookup))


def _pictures(folder: str, lookup: Callable | None) -> Pictures | None:
    """A folder that is not here is told: regions are enough to answer."""
    try:
        return Pictures.of_folder(folder) if folder else Pictures(lookup) if lookup else None
    except DataError as error:
        warn(f"results come without pictures: {error}")
        return None
