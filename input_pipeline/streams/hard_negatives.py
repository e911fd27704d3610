"""Hard negatives of image retrieval: for each image a pool of similar images.

  python -m input_pipeline.streams.hard_negatives STORE --out=pool.npz --images=flickr30k:train \\
      --manual_dir=flickr30k_files

For each image its nearest other images by Euclidean distance of the mean of their region features
(row 0, the whole image, not counted), as ViLBERT's pool has them. Only images that are trained on
belong in a pool: name them with --images.

The search is exact, in float64, and holds the means and one block of distances: 2.3 GB for the
113 287 training images of COCO with 2048 features, and 5·10¹³ floating-point operations, less than
an hour on two CPU cores. Reading the store comes on top.
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import dataclasses
import os
import sys
import zipfile
from collections.abc import Sequence

import numpy as np
import xxhash

from core import arguments, remote
from core.console import command, say
from core.errors import DataError
from core.progress import Progress, atomic_file
from input_pipeline.datasets.reading import coverage
from input_pipeline.regions.store import RegionStore

FORMAT = 1
NEIGHBOURS = 100  # of an image, as in ViLBERT's pool
BLOCK = 2**24  # distances computed at a time


@dataclasses.dataclass(frozen=True)
class Pool:
    """The neighbours of images.

    Attributes:
      images: ids, each once.
      neighbours: int32 [N, k], numbers of other images, the nearest first.
      store: fingerprint of the region store it was made from.
      fingerprint: hex digest of all this.
    """

    images: list[str]
    neighbours: np.ndarray
    store: str
    fingerprint: str


def means(store: RegionStore, rows: np.ndarray, progress: Progress) -> np.ndarray:
    """float64 [N, F], the mean feature of the regions of each image, row 0 not counted.

    Raises:
      DataError: a damaged record.
    """
    out = np.empty((len(rows), store.spec.feature_dim))
    for at in np.argsort(rows, kind="stable"):  # in the order they lie on disk
        row = int(rows[at])
        features = store.features_of(store.read(row))
        np.mean(features[1:], axis=0, dtype=np.float64, out=out[at])
        progress.add()
    return out


def nearest(points: np.ndarray, count: int, progress: Progress) -> np.ndarray:
    """int32 [N, count], the nearest other points of each, the nearest first.

    Args:
      points: float64 [N, F].
      count: below N.
      progress: counts the points that are done.
    """
    # Distances come from products, |b|² - 2ab; around their centre these lose the fewest digits.
    points = points - points.mean(0)
    size = len(points)
    squares = np.einsum("nf,nf->n", points, points)
    out = np.empty((size, count), np.int32)
    step = max(1, BLOCK // size)
    buffer = np.empty((min(step, size), size))
    for start in range(0, size, step):
        block = points[start : start + step]
        distance = np.matmul(block, points.T, out=buffer[: len(block)])
        distance *= -2
        distance += squares
        here = np.arange(len(block))
        distance[here, start + here] = np.inf  # itself
        near = np.sort(np.argpartition(distance, count - 1, axis=1)[:, :count], axis=1)
        order = np.argsort(np.take_along_axis(distance, near, 1), axis=1, kind="stable")
        out[start : start + step] = np.take_along_axis(near, order, 1)
        progress.add(len(block))
    return out


def build(store: RegionStore, images: Sequence[str], count: int = NEIGHBOURS) -> Pool:
    """Finds the neighbours of images among each other.

    Args:
      store: has the regions of all of them.
      images: ids, each once.
      count: neighbours of an image.

    Raises:
      DataError: an image that the store lacks, or too few images.
    """
    images, rows = list(images), store.rows_of(images)
    if (rows < 0).any():
        missing = np.flatnonzero(rows < 0)
        raise DataError(
            "an image has no regions",
            where=f"image {images[missing[0]]!r}",
            expected=f"an image of the store ({len(store)}, such as {store.keys[0]!r})",
            found=f"{len(missing)} of {len(images)} images are not there",
            fix="import their regions, or leave them out with --on_missing=skip",
        )
    if not 1 <= count < len(images):
        raise DataError(
            "too few images for so many neighbours",
            expected=f"1 to {len(images) - 1} neighbours of {len(images)} images",
            found=count,
            fix="set --neighbours",
        )
    progress = Progress("hard negatives: features", len(images), unit="images")
    points = means(store, rows, progress)
    progress = Progress("hard negatives: neighbours", len(images), unit="images")
    return _pool(images, nearest(points, count, progress), store.fingerprint)


def _pool(images: list[str], neighbours: np.ndarray, store: str) -> Pool:
    digest = xxhash.xxh3_128("\n".join([store, *images]).encode())
    digest.update(np.ascontiguousarray(neighbours))
    return Pool(images, neighbours, store, digest.hexdigest())


def save(pool: Pool, path: str | os.PathLike) -> None:
    """Writes a pool; the file is there whole or not at all."""
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            format=FORMAT,
            images=np.array(pool.images),
            pool=pool.neighbours,
            store=pool.store,
        )


def load(path: str | os.PathLike) -> Pool:
    """Reads a pool that `save` wrote.

    Raises:
      DataError: no such file, another kind of file, or neighbours that cannot be.
    """
    try:
        with np.load(remote.local(path), allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("format", "images", "pool", "store")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise DataError(
            "no readable pool of hard negatives",
            where=str(path),
            expected="a file written by `python -m input_pipeline.streams.hard_negatives`",
            found=f"{type(error).__name__}: {error}",
        ) from error
    images, near = arrays["images"], arrays["pool"]
    size, problem = len(images), ""
    if arrays["format"] != FORMAT:
        problem = f"format {arrays['format']}"
    elif near.dtype != np.int32 or near.ndim != 2 or len(near) != size or not near.size:
        problem = f"neighbours {near.dtype} {near.shape} of {size} images"
    elif near.min() < 0 or near.max() >= size:
        problem = f"neighbours {near.min()} to {near.max()}"
    elif (near == np.arange(size)[:, None]).any():
        problem = "an image among its own neighbours"
    elif len(np.unique(images)) != size:
        problem = "an image that occurs twice"
    if problem:
        raise DataError(
            "a pool of hard negatives is damaged",
            where=str(path),
            expected=f"format {FORMAT}; int32 [{size}, k], 0 to {size - 1}, of other images",
            found=problem,
            fix="make it again: python -m input_pipeline.streams.hard_negatives",
        )
    return _pool(images.tolist(), near, str(arrays["store"]))


def _images(args: argparse.Namespace, store: RegionStore) -> list[str]:
    """Ids of the images that the command line names."""
    if not args.images:
        return store.keys
    images = list(coverage.needed(args.images, args.key, args.manual_dir))
    if args.on_missing == "skip":
        rows = store.rows_of(images)
        kept = [image for image, row in zip(images, rows, strict=True) if row >= 0]
        if len(kept) < len(images):
            say(
                f"{args.images}: {len(images) - len(kept):,} of {len(images):,} images are not "
                "in the store and left out"
            )
        return kept
    return images


@command
def main(argv: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.streams.hard_negatives",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", help="region store folder(s), comma-separated")
    parser.add_argument("--out", required=True, help="file to write (.npz); must not exist")
    parser.add_argument(
        "--images", default="", help="a .txt of ids, a JSONL file or DATASET:SPLIT; default: all"
    )
    parser.add_argument("--key", default="image_id", help="of the image's id in a JSONL file")
    parser.add_argument("--manual_dir", default="", help="official files of DATASET:SPLIT")
    parser.add_argument("--on_missing", choices=("error", "skip"), default="error")
    parser.add_argument(
        "--neighbours", type=arguments.whole(1), default=NEIGHBOURS, help="of each image"
    )
    args = parser.parse_args(argv)
    if remote.path(args.out).exists():
        raise DataError(
            "the file exists already",
            where=args.out,
            expected="a path that is not there yet",
            found="a file or folder",
            fix="remove it or choose another path",
        )
    store = RegionStore.open(args.store)
    pool = build(store, _images(args, store), args.neighbours)
    save(pool, args.out)
    say(
        f"{args.out}: {args.neighbours} neighbours of each of {len(pool.images):,} images; "
        f"config.streams.<name>.distractors={args.out}"
    )


if __name__ == "__main__":
    sys.exit(main())
