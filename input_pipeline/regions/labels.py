"""Names of a store's classes and attributes, and its regions' attributes: two files beside it.

labels.json: {"classes": [...], "attributes": [...], "images": digest of ids and numbers of regions,
"xxh3": hash of the other file, null without it}. attributes.npz: "ids" int32 and "probs" float16
[regions, k], the k most probable attributes of every region of every image, in the store's order.

Models do not read them: they are for people, and for texts made of what a detector has found.
"""

import dataclasses
import io
import json
import pathlib
from collections.abc import Sequence

import numpy as np
import xxhash

from core import remote, strict_json
from core.errors import DataError
from core.reading import reading
from input_pipeline.regions.store import RegionStore

NAMES, ATTRIBUTES = "labels.json", "attributes.npz"
KEPT = 4  # attributes per region


def best(probs: np.ndarray) -> dict[str, np.ndarray]:
    """The KEPT most probable attributes of [n, A]: {"ids" int32, "probs" float16} [n, k]."""
    ids = np.argsort(-np.asarray(probs), axis=1, kind="stable")[:, :KEPT].astype(np.int32)
    return {"ids": ids, "probs": np.take_along_axis(probs, ids, 1).astype(np.float16)}


def digest_of(keys: Sequence[str], counts: np.ndarray) -> str:
    """Hex digest of a store's image ids and numbers of regions, in order."""
    digest = xxhash.xxh3_64("\n".join(keys).encode())
    digest.update(np.asarray(counts, np.int32).tobytes())
    return digest.hexdigest()


def write(
    folder: pathlib.Path,
    images: str,
    classes: Sequence[str],
    attributes: Sequence[str],
    found: dict[str, np.ndarray] | None,
) -> None:
    """Writes the files into a store's folder.

    Args:
      folder: of the store.
      images: `digest_of` its images.
      classes: names by class id, () without.
      attributes: names by attribute id, () without.
      found: "ids" and "probs" of all regions; None without attributes.
    """
    digest = None
    if found is not None:
        np.savez(folder / ATTRIBUTES, **found)
        digest = xxhash.xxh3_64_hexdigest((folder / ATTRIBUTES).read_bytes())
    about = {"classes": [*classes], "attributes": [*attributes], "images": images, "xxh3": digest}
    (folder / NAMES).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Labels:
    """Names, and attributes of regions.

    Attributes:
      classes: names by class id, () where the store has none.
      attributes: names by attribute id, () where it has none.
      ids, probs: [regions, k] of all images; None without attributes.
      ends: number of regions up to and with each image.
    """

    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    ids: np.ndarray | None
    probs: np.ndarray | None
    ends: np.ndarray

    @classmethod
    def open(cls, folder: str) -> "Labels | None":
        """The labels of a store of one folder, None where it has none.

        Raises:
          DataError: files that are damaged, or of another store.
        """
        path = remote.path(folder)
        if not (path / NAMES).is_file():
            return None
        store = RegionStore.open(folder)
        fix = "copy the store again, or make the features again"
        with reading(str(path / NAMES), "a store's labels cannot be read", fix=fix):
            about = strict_json.parse(remote.local(path / NAMES).read_bytes())
            names = {key: tuple(map(str, about[key])) for key in ("classes", "attributes")}
            if about["images"] != digest_of(store.keys, store.counts):
                raise ValueError("they are of other images or regions")
        ids = probs = None
        if about["xxh3"] is not None:
            where = str(path / ATTRIBUTES)
            with reading(where, "a store's attributes cannot be read", fix=fix):
                data = remote.local(path / ATTRIBUTES).read_bytes()
                if (digest := xxhash.xxh3_64_hexdigest(data)) != about["xxh3"]:
                    raise DataError(
                        "a store's attributes are damaged",
                        where=where,
                        expected=f"hash {about['xxh3']}",
                        found=f"hash {digest}",
                        fix=fix,
                    )
                with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                    ids, probs = arrays["ids"], arrays["probs"]
        return cls(**names, ids=ids, probs=probs, ends=np.cumsum(store.counts))

    def attributes_of(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids, probs) [n, k] of one image's regions, the most probable first.

        Raises:
          DataError: the store has no attributes.
        """
        if self.ids is None or self.probs is None:
            raise DataError(
                "the store has no attributes",
                expected=f"a store with {ATTRIBUTES}",
                fix="extract with a detector that gives some (visual_genome)",
            )
        start = int(self.ends[row - 1]) if row else 0
        return self.ids[start : int(self.ends[row])], self.probs[start : int(self.ends[row])]
