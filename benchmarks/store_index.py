"""What it takes to open a region store of millions of images: seconds, and memory of the process.

  python benchmarks/store_index.py --images=12000000

Makes up the index of such a store (ids are COCO-like numbers in an order of their own; the shards
are holes that take no room), opens it in a process of its own, looks up `--asked` of its ids and
reads a few records. Memory is what is the process's own (Anonymous in /proc, Linux only), after
the imports and after all that; pages of the index that processes share are not counted. `--as=old`
writes the index as stores had it before ids were in order in it. `--peer=FOLDER` has another
checkout of the project do the same with the same store.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import xxhash

from core import arguments
from core.strings import pack_strings
from input_pipeline.regions import index_file
from input_pipeline.regions.region_writer import FORMAT, content_fingerprint
from input_pipeline.regions.spec import FeatureSpec

ROOT = pathlib.Path(__file__).resolve().parents[1]
SPEC = FeatureSpec(detector="made up", feature_dim=4)
SHARD = 2**20  # records of a shard

MEASURED = """
import json, sys, time
import numpy as np
from input_pipeline.regions import RegionStore

def own():
    with open("/proc/self/smaps_rollup") as file:
        found = [line.split() for line in file]
    return sum(int(kB) for name, kB, *_ in found if name == "Anonymous:") / 1e3

def timed(run):
    wall, cpu = time.perf_counter(), time.process_time()
    value = run()
    return value, time.perf_counter() - wall, time.process_time() - cpu

before = own()
store, wall, cpu = timed(lambda: RegionStore.open(sys.argv[1]))
opened = own()
asked = [f"{7 * i % 10**9:09d}" for i in range(0, 2 * int(sys.argv[2]), 2)]
rows, found_wall, _ = timed(lambda: store.rows_of(asked))
looked = own()
out = store.allocate(64, 1, 2)
store.read_into(out, rows[rows >= 0][:64][:, None])
print(json.dumps(dict(images=len(store), seconds=wall, cpu_s=cpu, imports_MB=before,
    open_MB=opened - before, lookup_MB=looked - before, lookup_s=found_wall,
    found=int((rows >= 0).sum()), asked=len(asked))))
"""


def write(
    folder: pathlib.Path, ids: Sequence[str], spec: FeatureSpec = SPEC, *, old: bool = False
) -> None:
    """Writes a store of images of one region each, all zeros; `old`: its index as of before."""
    nbytes, images = spec.record_nbytes(1), len(ids)
    row = np.arange(images)
    index = {
        "shard": (row // SHARD).astype(np.int32),
        "offset": row % SHARD * nbytes,
        "nbytes": np.full(images, nbytes, np.int64),
        **{name: np.full(images, value, np.int32) for name, value in dict(n=1, height=480).items()},
        "width": np.full(images, 640, np.int32),
        "xxh3": np.full(images, xxhash.xxh3_64_intdigest(bytes(nbytes)), np.uint64),
    }
    index["keys"], index["key_ends"] = pack_strings(ids)
    folder.mkdir()
    shards = []
    for number, start in enumerate(range(0, images, SHARD)):
        records = min(SHARD, images - start)
        name = f"shard-{number:05d}.bin"
        with open(folder / name, "wb") as file:
            file.truncate(records * nbytes)
        shards.append({"file": name, "records": records, "bytes": records * nbytes})
    path = folder / index_file.FILE
    if old:
        np.savez(path, **index)
        digest = xxhash.xxh3_64_hexdigest(path.read_bytes())
    else:
        digest = index_file.write(path, index)
    manifest = {
        "format": FORMAT,
        "records": images,
        "fingerprint": content_fingerprint(spec, index),
        "index_xxh3": digest,
        "shards": shards,
    }
    (folder / "spec.json").write_text(json.dumps(spec.to_dict()))
    (folder / "manifest.json").write_text(json.dumps(manifest))


def measure(project: pathlib.Path, store: pathlib.Path, asked: int) -> dict:
    """Figures of opening a store in a process of its own."""
    command = [sys.executable, "-c", MEASURED, str(store), str(asked)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=arguments.whole(1), default=12_000_000)
    parser.add_argument("--asked", type=arguments.whole(1), default=1_000_000, help="ids looked up")
    parser.add_argument("--as", dest="written", choices=("new", "old"), default="new")
    parser.add_argument("--peer", help="folder of another checkout")
    parser.add_argument("--rounds", type=arguments.whole(1), default=3)
    args = parser.parse_args(argv)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="store_index"))
    try:
        ids = [f"{7 * i % 10**9:09d}" for i in range(args.images)]
        write(folder / "store", ids, old=args.written == "old")
        projects = {"ours": ROOT} | ({"peer": pathlib.Path(args.peer)} if args.peer else {})
        for _ in range(args.rounds):
            for name, project in projects.items():
                r = measure(project, folder / "store", args.asked)
                print(
                    f"{name}: {r['images']:,} images opened in {r['seconds']:.2f} s "
                    f"({r['cpu_s']:.2f} CPU s), {r['open_MB']:.0f} MB of its own beside "
                    f"{r['imports_MB']:.0f} MB of imports; {r['asked']:,} ids looked up in "
                    f"{r['lookup_s']:.2f} s ({r['found']:,} found), {r['lookup_MB']:.0f} MB after",
                    flush=True,
                )
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
