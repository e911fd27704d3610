"""What a region store holds, and whether it is sound.

  python -m input_pipeline.doctor verify STORE               # re-reads and checks every record
  python -m input_pipeline.doctor coverage STORE captions.jsonl --image_id image_id

Both exit with 1 if something is wrong.
"""

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np

from input_pipeline.datasets import text_corpus
from input_pipeline.progress import Progress
from input_pipeline.region_writer import SUM_TOLERANCE
from input_pipeline.regions import RegionStore
from input_pipeline.schema import DataError

SHOWN = 20  # errors printed in full


def check_record(store: RegionStore, row: int) -> dict[str, np.ndarray]:
    """Reads one record and checks its values, not only its hash.

    Returns:
      The record's arrays (FeatureSpec.split_record).

    Raises:
      DataError: naming shard, image and offset, what was expected and found.
    """
    record = store.read(row)

    def fail(what, expected, found):
        return DataError(
            what,
            where=store.where(row),
            expected=expected,
            found=found,
            fix="import this image again",
        )

    features = record["features"]
    bad = np.flatnonzero(~np.isfinite(features.astype(np.float32)).all(1))
    if bad.size:
        raise fail("features are not finite", "finite numbers", f"NaN or infinity in row {bad[0]}")
    boxes, height, width = record["boxes"], store.heights[row], store.widths[row]
    inside = (boxes >= 0) & (boxes <= np.asarray([width, height, width, height]))
    ordered = (boxes[:, 2:] >= boxes[:, :2]).all(1)
    bad = np.flatnonzero(~(inside.all(1) & ordered))
    if bad.size:
        raise fail(
            f"box {bad[0]} is outside its image or has its corners swapped",
            f"0 <= x1 <= x2 <= {width}, 0 <= y1 <= y2 <= {height}",
            boxes[bad[0]].tolist(),
        )
    if store.spec.kept_classes:
        probs, rest, ids = record["probs"], record["rest"], record["class_ids"]
        sums = probs.sum(1) + rest
        sound = (np.abs(sums - 1) <= SUM_TOLERANCE) & (probs >= 0).all(1) & (rest >= 0)
        sound &= (np.diff(probs, axis=1) <= 0).all(1)
        sound &= ((ids >= 0) & (ids < store.spec.num_classes)).all(1)
        bad = np.flatnonzero(~sound)
        if bad.size:
            raise fail(
                f"the class distribution of region {bad[0]} is broken",
                f"falling probabilities that sum to 1 with the rest, ids below "
                f"{store.spec.num_classes}",
                f"sum {sums[bad[0]]:.4f}, ids {ids[bad[0]].tolist()}",
            )
    return record


def verify(folders: str) -> int:
    """Checks every record of a store and prints a summary; returns the number of errors."""
    store = RegionStore.open(folders)
    errors, kept, classes = [], [], np.zeros(max(store.spec.num_classes, 1), np.int64)
    progress = Progress("verify", len(store), unit="images")
    for row in range(len(store)):
        try:
            record = check_record(store, row)
        except DataError as error:
            errors.append(error)
        else:
            if store.spec.kept_classes:
                kept.append(1 - record["rest"].mean())
                classes += np.bincount(record["class_ids"][:, 0], minlength=len(classes))
        progress.add()
    for error in errors[:SHOWN]:
        print(f"error: {error}", file=sys.stderr)
    counts, spec = store.counts, store.spec
    print(f"store      {folders}  fingerprint {store.fingerprint}")
    print(f"images     {len(store):,}, {len(errors):,} damaged")
    print(
        f"regions    {counts.sum():,}; {counts.min()} to {counts.max()}, mean {counts.mean():.1f}"
    )
    print(f"pixels     {store.heights.min()}x{store.widths.min()} to "
          f"{store.heights.max()}x{store.widths.max()} (height x width)")  # fmt: skip
    print(f"features   {spec.feature_dim} x {spec.dtype} from {spec.detector!r}; "
          f"whole image: {spec.global_feature}")  # fmt: skip
    if spec.kept_classes:
        seen = f"{np.count_nonzero(classes):,} of {spec.num_classes:,} classes come first somewhere"
        mass = f"{np.mean(kept):.4f}" if kept else "unknown"
        print(f"classes    {spec.num_classes:,}, best {spec.kept_classes} kept; probability kept "
              f"{mass} on average; {seen}")  # fmt: skip
    else:
        print("classes    none: masked regions cannot be trained, masked words and alignment can")
    return len(errors)


def coverage(folders: str, annotations: str, image_id: str) -> int:
    """Counts the images a JSONL file names and the store lacks; prints and returns the number."""
    store = RegionStore.open(folders)
    rows, images = 0, {}
    for line, raw in text_corpus.lines(annotations):
        try:
            key = json.loads(raw)[image_id]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "a line has no image id",
                where=f"{annotations}:{line}",
                expected=f"a JSON object with the key {image_id!r}",
                found=f"{type(error).__name__}: {raw[:60]!r}",
                fix="--image_id KEY names the key",
            ) from error
        rows += 1
        images.setdefault(str(key), line)
    missing = [key for key, row in zip(images, store.rows_of(list(images)), strict=True) if row < 0]
    print(f"{annotations}: {rows:,} rows, {len(images):,} images, {len(missing):,} without regions")
    print(f"{folders}: {len(store):,} images, {len(store) - len(images) + len(missing):,} unused")
    for key in missing[:SHOWN]:
        print(f"  missing: {key!r} ({annotations}:{images[key]})")
    return len(missing)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("verify", help="check every record of a store")
    one.add_argument("store", help="folder(s), comma-separated")
    two = commands.add_parser("coverage", help="does a store have the images of a file?")
    two.add_argument("store", help="folder(s), comma-separated")
    two.add_argument("annotations", help="JSONL file")
    two.add_argument("--image_id", default="image_id", help="key of the image's id")
    args = parser.parse_args(argv)
    try:
        if args.command == "verify":
            wrong = verify(args.store)
        else:
            wrong = coverage(args.store, args.annotations, args.image_id)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
