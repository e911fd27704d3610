"""How fast examples come out of a region store, and what that costs.

  python benchmarks/input_pipeline.py                    # a temporary synthetic store
  python benchmarks/input_pipeline.py --store STORE      # your own
  python benchmarks/input_pipeline.py --cold --block 1000  # from the disk itself, too
  python benchmarks/input_pipeline.py --consumer 2400      # does a model of that speed wait?

Prints examples a second, CPU seconds per 1000 examples (all threads), cores in use, and where the
time of one thread goes. The default is the paper's shape: 36 regions of 2048 numbers in bfloat16,
with the 16 best of 1601 classes. The store fits the page cache, so this is a warm disk. `--cold`
drops the store from the page cache and reads each record once, shuffled by example and, with
`--block N`, by blocks; it also counts the bytes that came from the disk.

`--consumer N` feeds a pretended device that takes N examples a second: each batch keeps it busy for
batch / N seconds, while the host fetches the next one, as in training. Printed are the share of the
device's time that it waits for batches, and, from a second run in which the functions of the
pipeline carry timers, the wall and CPU time of every stage. Features are never cast on the host:
they travel as stored. Texts are tokenised once, before training, so that a batch only gathers ids.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import xxhash

from benchmarks import consumer, synthetic_stream
from core import arguments
from input_pipeline.regions import RegionStore
from input_pipeline.regions.spec import DTYPES
from input_pipeline.streams import pipeline, sampling
from input_pipeline.streams.stream import Stream
from objectives import assemble


def measure(store: RegionStore, stream: Stream, args) -> dict:
    """All figures, as a dict for JSON."""
    batches = max(2, args.examples // args.batch)
    count = batches * args.batch
    rows = np.random.default_rng(2).integers(0, len(store), (batches, args.batch, 1))
    record = np.zeros(store.spec.record_nbytes(args.regions), np.uint8)

    def read():
        for row in rows.ravel().tolist():
            store.read(row)

    def hashes():
        for _ in range(count):
            xxhash.xxh3_64_intdigest(record)

    def fill():
        out = store.allocate(args.batch, 1, args.regions + 1)
        for part in rows:
            store.read_into(out, part, args.order)

    def batch():
        for draw in range(batches):
            stream.batch(draw)

    def texts():
        for draw in range(batches):
            at = sampling.draw_rows(0, "captions", draw, args.batch, stream.num_examples)
            assemble.caption(stream.source.table, at, stream.special, 64)

    read()  # brings the store into the page cache
    times = {
        part.__name__: min(
            (timed(part, count) for _ in range(3)), key=lambda t: t["cpu_s_per_1000"]
        )
        for part in (hashes, read, fill, texts, batch)
    }
    parts = {name: 1000 * time["cpu_s_per_1000"] for name, time in times.items()}
    results = {"parts_us": parts, "batch (one thread, no tf)": times["batch"]}
    for threads in args.threads:
        iterator = pipeline.iterate({"captions": stream}, threads=threads)
        for _ in range(8):  # TensorFlow's start, and the batches read ahead
            next(iterator)

        def drain(iterator=iterator):
            for _ in range(batches):
                next(iterator)

        results[f"iterate, {threads} threads"] = timed(drain, count)
        iterator.close()
    return results


def timed(function, examples: int) -> dict[str, float]:
    """Wall and CPU seconds (all threads) of a call over so many examples."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"examples_per_s": examples / wall, "cpu_s_per_1000": cpu / examples * 1000,
            "cores": cpu / wall}  # fmt: skip


def drop_from_cache(store: RegionStore) -> None:
    """Makes the system forget the store's shards, so that the next read is the disk's."""
    for folder in store._folders:
        for file in folder.files:
            os.fsync(file)  # pages that wait to be written are not dropped
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def disk_bytes() -> int:
    """Bytes this process has had the disk read (Linux)."""
    lines = pathlib.Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def jumps(store: RegionStore, stream: Stream, batches: int) -> float:
    """Share of reads that do not start where the last one ended."""
    reads, preadv = [], os.preadv

    def counting(file, buffers, offset):
        reads.append((file, offset, offset + len(buffers[0])))
        return preadv(file, buffers, offset)

    os.preadv = counting
    try:
        for draw in range(batches):
            stream.batch(draw)
    finally:
        os.preadv = preadv
    ends = [(file, end) for file, _, end in reads[:-1]]
    starts = [(file, start) for file, start, _ in reads[1:]]
    return sum(a != b for a, b in zip(starts, ends, strict=True)) / max(len(starts), 1)


def measure_cold(store: RegionStore, folder: str, args) -> dict:
    """{"shuffled" and, with --block, "blocks of N": figures of reading every image once}."""
    results = {}
    for block in dict.fromkeys((0, args.block)):
        name = f"cold, blocks of {block}" if block else "cold, shuffled"
        stream = synthetic_stream.make_stream(store, f"{folder}/cold-{block}", args, block, texts=1)
        batches = stream.num_examples // args.batch
        times = []
        for _ in range(3):
            drop_from_cache(store)
            before = disk_bytes()

            def read(stream=stream, batches=batches):
                with ThreadPoolExecutor(max(args.threads)) as pool:
                    for _ in pool.map(stream.batch, range(batches)):
                        pass

            times.append(timed(read, batches * args.batch))
            times[-1]["disk_kb"] = (disk_bytes() - before) / (batches * args.batch) / 1e3
        times.sort(key=lambda t: t["examples_per_s"])
        results[name] = times[1] | {"jumps": jumps(store, stream, batches)}
    return results


def show(results: dict, cold: dict, order: str) -> None:
    """Prints the tables of `measure` and `measure_cold`."""
    p = results["parts_us"]
    print("\none thread, microseconds of CPU time an example:")
    for label, value in (
        ("read (warm disk)", p["read"] - p["hashes"]),
        ("hash", p["hashes"]),
        (f"copy to the batch ({order})", p["fill"] - p["read"]),
        ("texts and plan", p["texts"]),
        ("fresh memory, boxes and the rest", p["batch"] - p["fill"] - p["texts"]),
    ):
        print(f"  {label:32s} {value:7.1f}  {value / p['batch']:6.1%}")
    print(f"  {'sum':32s} {p['batch']:7.1f}")
    print(f"\n{'':28s} examples/s  CPU s/1000  cores  examples/s per core")
    for name, r in results.items():
        if name != "parts_us":
            print(f"{name:28s} {r['examples_per_s']:10,.0f}  {r['cpu_s_per_1000']:10.3f}  "
                  f"{r['cores']:5.2f}  {1000 / r['cpu_s_per_1000']:10,.0f}")  # fmt: skip
    for name, r in cold.items():
        print(f"{name:28s} {r['examples_per_s']:10,.0f}  {r['cpu_s_per_1000']:10.3f}  "
              f"{r['cores']:5.2f}  {1000 / r['cpu_s_per_1000']:10,.0f}   "
              f"{r['disk_kb']:.0f} kB an example from the disk; "
              f"{r['jumps']:.1%} of reads do not follow the last one")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", help="region store to read; default: a synthetic one")
    parser.add_argument(
        "--images", type=arguments.whole(2), default=4000, help="of the synthetic store"
    )
    parser.add_argument("--regions", type=arguments.whole(1), default=36)
    parser.add_argument("--dim", type=arguments.whole(1), default=2048)
    parser.add_argument("--classes", type=arguments.whole(1), default=1601)
    parser.add_argument("--batch", type=arguments.whole(1), default=128)
    parser.add_argument(
        "--examples", type=arguments.whole(1), default=20000, help="read for each figure"
    )
    parser.add_argument(
        "--block", type=arguments.whole(0), default=0, help="shuffle blocks of neighbours"
    )
    parser.add_argument("--cold", action="store_true", help="also read from the disk itself")
    parser.add_argument(
        "--consumer", type=arguments.number(0), default=0, help="examples/s of a consumer"
    )
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES), help="when synthetic")
    parser.add_argument("--order", default="confidence", choices=("stored", "confidence"))
    parser.add_argument("--threads", type=arguments.whole(1), nargs="+", default=[1, 2, 4])
    parser.add_argument(
        "--json", type=arguments.to_write, help="also write the figures to this file"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        if not args.store:
            args.store = f"{folder}/store"
            start = time.perf_counter()
            synthetic_stream.make_store(args.store, args)
            rate = args.images / (time.perf_counter() - start)
            print(f"wrote {args.images:,} images at {rate:,.0f}/s")
        store = RegionStore.open(args.store)
        args.regions = int(store.counts.max())
        size = store.spec.record_nbytes(round(store.counts.mean())) / 1e3
        shape = f"{args.regions} regions x {store.spec.feature_dim} {store.spec.dtype}"
        print(f"{len(store):,} images, up to {shape}, {size:.0f} kB each, batch {args.batch}, "
              f"{os.cpu_count()} cores")  # fmt: skip
        stream = synthetic_stream.make_stream(store, f"{folder}/texts", args, args.block)
        if args.consumer:
            found = consumer.measure(store, stream, args)
            consumer.show(found)
            if args.json:
                pathlib.Path(args.json).write_text(json.dumps(found, indent=2) + "\n")
            return
        results = measure(store, stream, args)
        cold = measure_cold(store, folder, args) if args.cold else {}
    show(results, cold, args.order)
    results |= cold
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
