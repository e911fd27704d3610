"""Different images of one name: ids that are hashes of urls collide, and that is no leak.

Conceptual Captions' ids are crc32 of urls: among 3.3 million training images and 15,840 that are
validated on about a dozen share one. The leak check compares names; where a data set has the urls
(`Prepared.urls`), what it finds is compared by these.
"""

import collections
import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from core.console import say
from input_pipeline.datasets.reading.prepared import Prepared
from input_pipeline.regions.source import RegionSource
from input_pipeline.streams import leaks

Urls = Callable[[], Iterable[tuple[str, str]]]


@dataclasses.dataclass(frozen=True)
class Shared:
    """Names that training images and held out ones have in common, looked at by their urls.

    Attributes:
      images: names of those that are the same image.
      collisions: {name: (url of a training image, of one that is held out)} of those that are not.
    """

    images: frozenset[str]
    collisions: Mapping[str, tuple[str, str]]

    def told(self) -> str:
        """What is to be known of the collisions."""
        name, (here, there) = next(iter(self.collisions.items()))
        return (
            f"{len(self.collisions):,} names of training images are also those of other images "
            f"that are evaluated on: hashes of urls that collide, no leaks, such as {name!r} of "
            f"{here} in training and {there}; the region store has one image of each name, and "
            "the texts are trained on"
        )


def compare(
    mine: Iterable[tuple[str, str]],
    held: Iterable[leaks.HeldOut],
    wanted: Collection[str] | None = None,
) -> Shared:
    """Tells images of one name apart.

    Args:
      mine: (name over data sets, url) of the training images.
      held: what is held out, by url; others of these are not looked at.
      wanted: names that are looked at; None: all.
    """
    there, here = (collections.defaultdict[str, set[str]](set) for _ in range(2))
    for item in held:
        for name, url in item.urls() if item.urls else ():
            if wanted is None or name in wanted:
                there[name].add(url)
    for name, url in mine:
        if name in there:
            here[name].add(url)
    same = frozenset(name for name, found in here.items() if found & there[name])
    return Shared(
        same,
        {n: (min(found), min(there[n])) for n, found in here.items() if n not in same},
    )


class UrlCheck:
    """Tells images of one name apart, for the training split of a data set."""

    def __init__(self, prepared: Prepared, train_split: str):
        self._prepared, self._train = prepared, train_split
        self._told = False

    def urls(self, split: str) -> Urls | None:
        """urls() → (name over data sets, url) of a split's images; None: ids tell them apart."""
        urls, name = self._prepared.urls, self._prepared.image_name
        if urls is None:
            return None
        return lambda: ((name(image), url) for image, url in urls(split))

    def _compare(self, held: Iterable[leaks.HeldOut], wanted: Collection[str] | None) -> Shared:
        shared = compare((self.urls(self._train) or tuple)(), held, wanted)
        if shared.collisions and not self._told:
            self._told = True
            say(f"data: {shared.told()}")
        return shared

    def before(self, splits: Iterable[str], store: RegionSource, mode: str) -> None:
        """Looks for leaks from splits of the same data set, before a table takes its time.

        Args:
          splits: that are evaluated on.
          store: images that it lacks are never trained on.
          mode: data.leaks.

        Raises:
          DataError: training images are evaluated on, and `mode` is "error".
        """
        prepared = self._prepared
        held = [
            leaks.HeldOut(
                frozenset(),
                f"split {split!r} of {prepared.origin(split)}",
                urls=self.urls(split),
            )
            for split in sorted(splits)
            if split in prepared.splits and split != self._train
        ]
        if prepared.urls is None or not held or self._train not in prepared.splits:
            return
        shared = self._compare(held, None)
        if not shared.images or mode != "error":
            return
        images = list(dict.fromkeys(image for image, _ in prepared.urls(self._train)))
        rows = store.rows_of(images).tolist()
        source = ", ".join(item.source for item in held)
        found = {
            i: source
            for i, (image, row) in enumerate(zip(images, rows, strict=True))
            if row >= 0 and prepared.image_name(image) in shared.images
        }
        if found:
            raise leaks.refuse(found, images, prepared.origin(self._train))

    def without(
        self,
        found: dict[int, str],
        images: Sequence[str],
        held: Sequence[leaks.HeldOut],
        same: Mapping[str, str] | None,
    ) -> dict[int, str]:
        """What `leaks.find` found of training images, without others of the same name.

        Args:
          found, images, held, same: as `leaks.find` gave and took them.
        """
        by_url = [item for item in held if item.urls]
        if not found or not by_url or self._prepared.urls is None:
            return found
        name = self._prepared.image_name
        names = {i: name(images[i]) for i in found}
        shared = self._compare(by_url, set(names.values()))
        doubted = [i for i in found if names[i] in shared.collisions]
        kept = {i: source for i, source in found.items() if names[i] not in shared.collisions}
        others = [item for item in held if not item.urls]  # which have the name, too
        again = leaks.find([images[i] for i in doubted], name, others, same, strict=False)
        return kept | {doubted[k]: source for k, source in again.items()}
