"""`verify`: checks every record of a store. `coverage`: has it the images that a file needs?"""

import numpy as np

from core.console import say, warn
from core.errors import DataError
from core.progress import Progress
from input_pipeline.datasets.reading import coverage as of_annotations
from input_pipeline.doctor.checkpoints import saved_spec
from input_pipeline.pictures import build as pictures
from input_pipeline.pictures.store import PictureStore, is_store
from input_pipeline.regions import index_file
from input_pipeline.regions.image_checks import SUM_TOLERANCE
from input_pipeline.regions.store import RegionStore, split_paths

SHOWN = 20  # errors printed in full


def check_record(store: RegionStore, row: int) -> dict[str, np.ndarray]:
    """Reads one record and checks its values, not only its hash.

    Returns:
      The record's arrays (FeatureSpec.split_record).

    Raises:
      DataError: naming shard, image and offset, what was expected and found.
    """
    record = store.read(row)

    def fail(what: str, expected: object, found: object) -> DataError:
        return DataError(
            what,
            where=store.where(row),
            expected=expected,
            found=found,
            fix="import this image again",
        )

    bad = np.flatnonzero(~np.isfinite(store.features_of(record)).all(1))
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
        valid = (np.abs(sums - 1) <= SUM_TOLERANCE) & (probs >= 0).all(1) & (rest >= 0)
        valid &= (np.diff(probs, axis=1) <= 0).all(1)
        valid &= ((ids >= 0) & (ids < store.spec.num_classes)).all(1)
        bad = np.flatnonzero(~valid)
        if bad.size:
            raise fail(
                f"the class distribution of region {bad[0]} is broken",
                f"falling probabilities that sum to 1 with the rest, ids below "
                f"{store.spec.num_classes}",
                f"sum {sums[bad[0]]:.4f}, ids {ids[bad[0]].tolist()}",
            )
    return record


def _of_pictures(folders: str) -> bool:
    return all(map(is_store, split_paths(folders)))


def verify(folders: str, checkpoint: str = "") -> int:
    """Checks every record of a store and prints a summary; returns the number of errors.

    Args:
      folders: of the store, of regions or of pictures, comma-separated.
      checkpoint: of a model that is to read it; empty: none.

    Raises:
      DataError: the store cannot be opened, or the checkpoint is of other features.
    """
    if _of_pictures(folders):
        return pictures.verify(folders)
    store = RegionStore.open(folders)
    if checkpoint:
        saved, where = saved_spec(checkpoint)
        store.spec.require_match(saved, folders, where)
    errors = [_misled(split_paths(folders)[number]) for number in store.misled()]
    kept, classes = [], np.zeros(max(store.spec.num_classes, 1), np.int64)
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
        warn(f"error: {error}")
    counts, spec = store.counts, store.spec
    say(f"store      {folders}  fingerprint {store.fingerprint}")
    say(f"images     {len(store):,}, {len(errors):,} damaged")
    say(f"regions    {counts.sum():,}; {counts.min()} to {counts.max()}, mean {counts.mean():.1f}")
    say(
        f"pixels     {store.heights.min()}x{store.widths.min()} to "
        f"{store.heights.max()}x{store.widths.max()} (height x width)"
    )
    say(
        f"features   {spec.feature_dim} x {spec.dtype} from {spec.detector!r}; "
        f"whole image: {spec.global_feature}"
    )
    if spec.kept_classes:
        seen = f"{np.count_nonzero(classes):,} of {spec.num_classes:,} classes come first somewhere"
        mass = f"{np.mean(kept):.4f}" if kept else "unknown"
        say(
            f"classes    {spec.num_classes:,}, best {spec.kept_classes} kept; probability kept "
            f"{mass} on average; {seen}"
        )
    else:
        say("classes    none: masked regions cannot be trained, masked words and alignment can")
    return len(errors)


def _misled(folder: str) -> DataError:
    return DataError(
        "the index of a store does not find its images",
        where=f"{folder}/{index_file.FILE}",
        expected="the hashes of its ids, in order",
        found="others",
        fix="import the features again, or copy the store from where it is sound",
    )


def coverage(folders: str, annotations: str, image_id: str, manual_dir: str = "") -> int:
    """Prints which images of annotations a store lacks; returns their number.

    Args:
      folders: of the store, of regions or of pictures, comma-separated.
      annotations: JSONL file, .txt file of ids, or DATASET:SPLIT.
      image_id: key of the image's id in a JSONL file.
      manual_dir: folder of the official files of DATASET:SPLIT.
    """
    store = PictureStore.open(folders) if _of_pictures(folders) else RegionStore.open(folders)
    needed = of_annotations.needed(annotations, image_id, manual_dir)
    return of_annotations.report(store, needed, annotations)
