"""What a dtype and the number of kept class probabilities cost: bytes, error, speed.

  python benchmarks/storage.py STORE [STORE ...]

Each STORE should be the best there is: float32 features with all class probabilities
(`python -m input_pipeline.importers ... --dtype float32 --top_k 100000`). It is written again in
every dtype, and with fewer probabilities, into a temporary folder. Errors are over its first
`--images` images, against the features of STORE. Where it has fewer, they are repeated under other
names for the rates, so that the store does not fit the processor's caches; it stays in the page
cache.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

from core import arguments
from core.errors import DataError
from input_pipeline.regions import RegionStore, RegionWriter
from input_pipeline.regions.convert_store import Error, fewer_classes
from input_pipeline.regions.spec import DTYPES, FeatureSpec

BATCH = 128
TOPS = (16, 100)


def records(store: RegionStore, spec: FeatureSpec):
    """(id, arrays for RegionWriter.add_checked, (height, width)) of each image of a store."""
    for row, key in enumerate(store.keys):
        record = store.read(row)
        arrays = {"rows": store.features_of(record), "boxes": record["boxes"].copy()}
        if spec.kept_classes:
            arrays |= fewer_classes({k: v.copy() for k, v in record.items()}, spec.kept_classes)
        yield key, arrays, (int(store.heights[row]), int(store.widths[row]))


def measure(store: RegionStore, spec: FeatureSpec, folder: str, args) -> dict:
    """Writes `store` with another spec and reads it back in batches; all figures of one line."""
    images = list(itertools.islice(records(store, spec), args.images))
    error = Error()
    for _, arrays, _ in images:
        error.add(arrays["rows"], spec.decode(spec.encode(arrays["rows"])), arrays.get("rest"))
    wall = time.perf_counter()
    with RegionWriter(folder, spec) as writer:
        for i in range(args.images):
            key, arrays, size = images[i % len(images)]
            writer.add_checked(f"{key}#{i // len(images)}", arrays, *size, where="benchmark")
    written = args.images / (time.perf_counter() - wall)
    new = RegionStore.open(folder)
    limit = int(new.counts.max()) + 1
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(new), (max(1, args.examples // BATCH), BATCH, 1))
    out = new.allocate(BATCH, 1, limit)

    def read():
        wall, cpu = time.perf_counter(), time.process_time()
        for part in rows:
            new.read_into(out, part)
        return time.perf_counter() - wall, time.process_time() - cpu

    read()  # brings the store into the page cache
    wall, cpu = min(read() for _ in range(3))
    mean, least = error.kept_mass or (None, None)
    return {
        "dtype": spec.dtype,
        "classes": spec.kept_classes,
        "kB_per_image": new.nbytes / len(new) / 1e3,
        "relative_error": error.relative,
        "largest_error": error.largest,
        "cosine": error.cosine,
        "kept_mass": mean,
        "least_kept_mass": least,
        "written_per_s": written,
        "read_per_s": rows.size / wall,
        "read_cpu_s_per_1000": cpu / rows.size * 1e3,
    }


def variants(spec: FeatureSpec) -> list[FeatureSpec]:
    """Every dtype with the 16 best classes; then bfloat16 with more of them."""
    out = [dataclasses.replace(spec, dtype=name, top_k=TOPS[0]) for name in DTYPES]
    for top in (*TOPS[1:], spec.kept_classes):
        if TOPS[0] < top <= spec.kept_classes:
            out.append(dataclasses.replace(spec, dtype="bfloat16", top_k=top))
    return out


def line(r: dict) -> str:
    """One line of the table."""
    mass = f"{r['kept_mass']:.4f} {r['least_kept_mass']:.4f}" if r["classes"] else f"{'-':>13}"
    return (
        f"{r['dtype']:9s} {r['classes']:7d} {r['kB_per_image']:9.1f} {r['relative_error']:9.2e} "
        f"{r['largest_error']:9.2e} {r['cosine']:9.6f} {mass} {r['written_per_s']:9,.0f} "
        f"{r['read_per_s']:9,.0f} {r['read_cpu_s_per_1000']:10.3f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", nargs="+")
    parser.add_argument("--images", type=arguments.whole(1), default=2000, help="written and read")
    parser.add_argument(
        "--examples", type=arguments.whole(1), default=8000, help="read for each rate"
    )
    parser.add_argument(
        "--json", type=arguments.to_write, help="also write the figures to this file"
    )
    args = parser.parse_args(argv)
    try:  # all of them, before the first is measured
        stores = {path: RegionStore.open(path) for path in args.store}
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results = {}
    for path, store in stores.items():
        spec = store.spec
        print(f"{path}: {len(store):,} images, {store.counts.mean():.1f} regions x "
              f"{spec.feature_dim} {spec.dtype}, {spec.kept_classes} of {spec.num_classes} classes "
              f"kept, {os.cpu_count()} cores")  # fmt: skip
        if spec.dtype != "float32":
            print(f"note: errors do not count what {spec.dtype} had lost already")
        print("dtype     classes  kB/image  relative   largest    cosine   mass   least "
              "written/s    read/s CPU s/1000")  # fmt: skip
        results[path] = []
        for one in variants(spec):
            with tempfile.TemporaryDirectory() as folder:
                results[path].append(measure(store, one, f"{folder}/store", args))
            print(line(results[path][-1]), flush=True)
        print()
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
