"""A region store with features in another dtype, or with fewer class probabilities kept.

  python -m input_pipeline.regions.convert_store STORE OUT --dtype int8
  python -m input_pipeline.regions.convert_store STORE OUT --dtype bfloat16 --top_k 16

Reads image by image, checks every hash, writes OUT whole or not at all, and prints how far the new
features are from the old ones. What a narrower dtype rounded away does not come back with a wider
one: such a store is as inexact as the one it was made from, which is said. docs/storage.md has the
sizes and errors to choose by.
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from core import arguments
from core.console import command, say
from core.errors import DataError
from core.progress import Progress, alone
from input_pipeline.regions.spec import DTYPES, FeatureSpec
from input_pipeline.regions.store import RegionStore, RegionWriter

# Bits of precision, sign apart: which conversions cannot lose anything more.
PRECISION = {"float32": 24, "float16": 11, "bfloat16": 8, "int8": 7}


class Error:
    """How far stored features are from what they were made of, over all rows [0 .. n] added."""

    def __init__(self):
        self._squares = self._signal = self._cosines = 0.0
        self._rows = self._regions = 0
        self._mass, self._least = 0.0, 1.0
        self.largest = 0.0  # absolute error of a single number

    def add(self, before: np.ndarray, after: np.ndarray, rest: np.ndarray | None = None) -> None:
        """Counts one image.

        Args:
          before: float32 [n + 1, F].
          after: float32 [n + 1, F].
          rest: [n] probability of the classes that are not kept, None without distributions.
        """
        x, y = before.astype(np.float64), after.astype(np.float64)
        difference = x - y
        self._squares += float((difference**2).sum())
        self._signal += float((x**2).sum())
        self.largest = max(self.largest, float(np.abs(difference).max()))
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        cosines = (x * y).sum(1) / np.where(norms, norms, 1)
        self._cosines += float(np.where(norms, cosines, (x == y).all(1)).sum())
        self._rows += len(x)
        if rest is not None:
            self._mass += float((1 - rest).sum())
            self._least = min(self._least, float(1 - rest.max()))
            self._regions += len(rest)

    @property
    def relative(self) -> float:
        """Root mean square of the error over that of the features; 0 where all are zero."""
        return (self._squares / self._signal) ** 0.5 if self._signal else 0.0

    @property
    def cosine(self) -> float:
        """Mean cosine between a row and its stored form."""
        return self._cosines / max(self._rows, 1)

    @property
    def kept_mass(self) -> tuple[float, float] | None:
        """(mean, smallest) probability of a region's kept classes; None without distributions."""
        return (self._mass / self._regions, self._least) if self._regions else None


def fewer_classes(record: dict[str, np.ndarray], k: int) -> dict[str, np.ndarray]:
    """The k most probable of a record's kept classes; the others join the rest."""
    cut = record["probs"][:, k:]
    return {
        "class_ids": record["class_ids"][:, :k],
        "probs": record["probs"][:, :k],
        "rest": record["rest"] + cut.sum(1) if cut.shape[1] else record["rest"],
    }


def target_spec(spec: FeatureSpec, dtype: str | None, top_k: int | None) -> FeatureSpec:
    """The spec of the new store; None leaves a field as it is.

    Raises:
      DataError: an unknown dtype, classes that the store has not kept, nothing to change.
    """
    changes = {}
    if dtype is not None:
        changes["dtype"] = dtype
    if top_k is not None:
        if not spec.num_classes:
            raise DataError(
                "the store has no class distributions",
                where="--top_k",
                expected="num_classes > 0 in its feature spec",
                found="num_classes = 0",
                fix="leave --top_k out",
            )
        if min(top_k, spec.num_classes) > spec.kept_classes:
            raise DataError(
                "class probabilities that were not kept cannot be restored",
                where="--top_k",
                expected=f"1 to {spec.kept_classes}, which the store has",
                found=top_k,
                fix="import the features again with a larger --top_k",
            )
        changes["top_k"] = top_k
    new = dataclasses.replace(spec, **changes)
    if new == spec:
        raise DataError(
            "nothing to convert: the new store would be the same",
            expected=f"a --dtype other than {spec.dtype!r} or a smaller --top_k than {spec.top_k}",
            found=f"dtype={new.dtype!r}, top_k={new.top_k}",
        )
    return new


def convert(folders: str, out: str, *, dtype: str | None = None, top_k: int | None = None) -> Error:
    """Writes store `out` from a store; row 0 is converted like the others, not recomputed.

    Args:
      folders: a store, or several with commas, which become one.
      out: folder to write.
      dtype: of the new features; None: unchanged.
      top_k: class probabilities kept per region; None: unchanged.

    Returns:
      The error of the new features against those of `folders`.

    Raises:
      DataError: what `target_spec` refuses, a damaged record, features the new dtype cannot hold,
        another process that writes `out`.
    """
    store = RegionStore.open(folders)
    spec = target_spec(store.spec, dtype, top_k)
    error, progress = Error(), Progress("convert", len(store), unit="images")
    with alone(out), RegionWriter(out, spec) as writer:
        for row, key in enumerate(store.keys):
            record = store.read(row)
            arrays = {"rows": store.features_of(record), "boxes": record["boxes"]}
            if spec.kept_classes:
                arrays |= fewer_classes(record, spec.kept_classes)
            size = int(store.heights[row]), int(store.widths[row])
            after = writer.add_checked(key, arrays, *size, where=store.where(row))
            error.add(arrays["rows"], after, arrays.get("rest"))
            progress.add()
    return error


@command
def main(argv: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", help="folder(s), comma-separated")
    parser.add_argument("out", help="folder of the new store; must not exist")
    parser.add_argument("--dtype", choices=sorted(DTYPES), help="of the features; default: as is")
    parser.add_argument(
        "--top_k", type=arguments.whole(0), help="class probabilities per region; default: as is"
    )
    args = parser.parse_args(argv)
    error = convert(args.store, args.out, dtype=args.dtype, top_k=args.top_k)
    old, new = RegionStore.open(args.store), RegionStore.open(args.out)
    before, after = (store.nbytes / len(store) / 1e3 for store in (old, new))
    say(f"{args.out}: {len(new):,} images, {after:.1f} kB each (from {before:.1f} kB)")
    say(
        f"{old.spec.dtype} -> {new.spec.dtype}: relative error {error.relative:.3g} (RMS), "
        f"largest error {error.largest:.3g}, mean cosine {error.cosine:.6f}"
    )
    if error.kept_mass:
        mean, least = error.kept_mass
        say(
            f"class probability kept by the best {new.spec.kept_classes} of "
            f"{new.spec.num_classes}: {mean:.4f} on average, {least:.4f} at least"
        )
    if PRECISION[new.spec.dtype] > PRECISION[old.spec.dtype]:
        say(
            f"note: {new.spec.dtype} cannot restore what {old.spec.dtype} had lost; for better "
            "features import them again"
        )


if __name__ == "__main__":
    sys.exit(main())
