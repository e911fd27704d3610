"""Keeps images that are evaluated on out of training.

Images are compared by names that hold over data sets ("coco:139", "vg:7"), since data sets share
them: RefCOCO, VQA and the captions are all of COCO, half of Visual Genome is, too. 12-in-1 calls
training sets without the test images of any task "clean".

However a name is written, it is compared as `core.ids.identity` reads it: without suffix, leading
zeros and COCO's file names. An id alone ("139", of one's own data) means one of the images it is
compared with, of whatever data set, where that is said: in data.held_out, and in one region store.
`held_out` reads the lists, `clean_splits` says what became of them, `collisions` tells different
images of one name apart.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from core.console import say
from core.errors import DataError
from core.ids import endings, identity, split_namespace
from input_pipeline.datasets.options.shared import LEAKS
from input_pipeline.datasets.reading import entries, files


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Images that must not be trained on.

    Attributes:
      names: of the images, over data sets; where `by_id`, also ids alone.
      source: where they come from, for messages.
      by_id: whether an id alone, here or of a training image, is compared with any name.
      from_file: whether the names are the lines of a file; they may be paths, too.
      urls: urls() -> (name, url) of the images, where two images may have one name; else None.
    """

    names: frozenset[str]
    source: str
    by_id: bool = False
    from_file: bool = False
    urls: Callable[[], Iterable[tuple[str, str]]] | None = None


def check_mode(mode: str) -> None:
    """Checks data.leaks.

    Raises:
      DataError: an unknown value.
    """
    if mode not in LEAKS:
        raise entries.unknown("leaks", LEAKS, mode, "--config.data.leaks")


def coco_names(path: str) -> dict[str, str]:
    """{"vg:<id>": "coco:<id>"} of the images of Visual Genome that are COCO's.

    Args:
      path: of Visual Genome's image_data.json, a list of {"image_id", "coco_id" or null, ...}.

    Raises:
      DataError: it is not that file.
    """
    names = {}
    for i, item in enumerate(entries.check(files.read_json(path), list, path)):
        where = f"{path}[{i}]"
        number = entries.need_number(item, "image_id", where)
        if item.get("coco_id") is not None:
            names[f"vg:{number}"] = f"coco:{entries.need_number(item, 'coco_id', where)}"
    return names


class Names:
    """The names of a `HeldOut`, to be found by any way of writing them."""

    def __init__(self, held: HeldOut, to_coco: Mapping[str, str]):
        self._by_id, self._from_file, self._to_coco = held.by_id, held.from_file, to_coco
        self._full: dict[tuple[str, str], set[str]] = {}  # (namespace, identity): names
        self._any: dict[str, set[str]] = {}  # identity whatever the namespace: names
        self._alone: dict[str, set[str]] = {}  # identity of an id alone: names
        self._paths: dict[str, set[str]] = {}  # identities of the ends of paths: names
        for name in held.names:
            (space, own), image_id = image = _image(name)
            for key in self._keys(image.key):
                self._full.setdefault(key, set()).add(name)
            self._any.setdefault(own, set()).add(name)
            ends = endings(image_id)[1:] if held.from_file else ()
            if space:
                for end in ends:
                    self._full.setdefault((space, end), set()).add(name)
                continue
            self._alone.setdefault(own, set()).add(name)
            for end in ends:
                self._paths.setdefault(end, set()).add(name)
        self.spaces = {split_namespace(name)[0] for name in held.names}
        self.identities = {own for _, own in self._full} | {*self._any, *self._alone, *self._paths}

    def _keys(self, key: tuple[str, str]) -> list[tuple[str, str]]:
        """(namespace, identity) of a name, and of the same image's name in COCO."""
        coco = self._to_coco.get(":".join(key)) if self._to_coco else None
        return [key, split_namespace(coco)] if coco else [key]

    def of(self, name: str) -> set[str]:
        """The names that mean an image, given its name over data sets."""
        return self.of_image(_image(name))

    def of_image(self, image: "_Image") -> set[str]:
        """The names that mean an image."""
        found: set[str] = set()
        for key in self._keys(image.key):
            found |= self._full.get(key, _NONE)
        if not self._by_id:
            return found
        space, own = image.key
        found |= (self._alone if space else self._any).get(own, _NONE)
        found |= self._paths.get(own, _NONE)
        if self._from_file and "/" in image.image_id:  # "still.jpg" for "movie/still.jpg"
            found = found.union(
                *(self._alone.get(end, _NONE) for end in endings(image.image_id)[1:])
            )
        return found


_NONE: frozenset[str] = frozenset()


class _Image(NamedTuple):
    """A name over data sets, taken apart once: (namespace, identity), and the id as written."""

    key: tuple[str, str]
    image_id: str


def _image(name: str) -> _Image:
    space, image_id = split_namespace(name)
    return _Image((space, identity(image_id)), image_id)


def find(
    images: Sequence[str],
    image_name: Callable[[str], str],
    held: Sequence[HeldOut],
    same: Mapping[str, str] | None = None,
    *,
    strict: bool = True,
) -> dict[int, str]:
    """Which images are held out.

    Args:
      images: ids of the training images.
      image_name: gives their names over data sets.
      held: what to keep out.
      same: `coco_names`; None where the file is not named.
      strict: refuse to compare images of Visual Genome with COCO's without `same`; False: say
        so and go on. Lists of both are taken to name all that they mean.

    Returns:
      {index into `images`: source of the first list it is in}.

    Raises:
      DataError: Visual Genome and COCO meet without `same`, and `strict`.
    """
    names = [Names(item, same or {}) for item in held]
    candidates, ours = _candidates(map(image_name, images), names, same or {})
    found: dict[int, str] = {}
    both, lists = {"vg", "coco"}, [item for item in held if item.from_file]
    complete = both <= {split_namespace(name)[0] for item in lists for name in item.names}
    for item, wanted in zip(held, names, strict=True):
        untold = same is None and not (complete and item.from_file)
        if untold and both & ours and both <= ours | wanted.spaces:
            unknown = DataError(
                "images of Visual Genome cannot be told from COCO's",
                where=f"training images against {item.source}",
                expected="Visual Genome's image_data.json, which tells its COCO images",
                found="none",
                fix="--config.data.image_data=image_data.json, or go on without this check: "
                "--config.data.leaks=report",
            )
            if strict:
                raise unknown
            say(f"data: {unknown}")
        for i, image in candidates.items():
            if i not in found and wanted.of_image(image):
                found[i] = item.source
    return found


def _candidates(
    images: Iterable[str], names: Sequence[Names], same: Mapping[str, str]
) -> tuple[dict[int, _Image], set[str]]:
    """({index: image} of those that may be held out, namespaces of all); there are millions.

    Args:
      images: names over data sets.
      names: of what is held out.
      same: `coco_names`.
    """
    wanted = set[str]().union(*(one.identities for one in names))
    found, spaces = dict[int, _Image](), set[str]()
    for i, name in enumerate(images):
        space, _, image_id = name.partition(":")
        if not space or not image_id or space not in spaces:
            space, image_id = split_namespace(name)
            spaces.add(space)
        own = identity(image_id)
        if own in wanted or "/" in image_id or (same and space == "vg"):
            found[i] = _Image((space, own), image_id)
    return found, spaces


def refuse(found: Mapping[int, str], images: Sequence[str], origin: str) -> DataError:
    """The error of training images that are held out."""
    return DataError(
        "training images are evaluated on",
        where=origin,
        expected="no image in common with " + ", ".join(dict.fromkeys(found.values())),
        found=describe(found, images),
        fix="--config.data.leaks=drop leaves their texts out of training; report goes on with "
        "them, as recipes do that train on the validation split",
    )


def describe(found: Mapping[int, str], images: Sequence[str]) -> str:
    """How many images are held out, and the first ones."""
    first = ", ".join(repr(images[i]) for i in list(found)[:5])
    return f"{len(found)} of {len(images)} images: {first}{', ...' if len(found) > 5 else ''}"
