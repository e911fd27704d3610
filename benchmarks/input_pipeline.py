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
import collections
import contextlib
import json
import os
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import xxhash
from ml_collections import ConfigDict

from configs import common
from input_pipeline import limits, pipeline, sampling
from input_pipeline.regions import FeatureSpec, RegionStore, RegionWriter
from input_pipeline.spec import DTYPES
from input_pipeline.stream import Source, Stream
from input_pipeline.tables import Row, build_table
from input_pipeline.tokenizer import Tokenizer, train_wordpiece

WORDS = ("man", "woman", "dog", "cat", "on", "with", "red", "blue", "bench", "street", "holding")


def make_store(folder: str, args) -> None:
    """Random features of `args.images` images, made in a few seconds."""
    rng = np.random.default_rng(0)
    spec = FeatureSpec(
        "synthetic",
        args.dim,
        num_classes=args.classes,
        background_class=0,
        max_regions=args.regions,
        dtype=args.dtype,
    )
    n = args.regions
    features = rng.standard_normal((n, args.dim), np.float32)
    probs = rng.dirichlet(np.full(args.classes, 0.05), n)
    corners = rng.uniform(0, 400, (n, 4))
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]),
                            np.maximum(corners[:, :2], corners[:, 2:])], 1)  # fmt: skip
    with RegionWriter(folder, spec) as writer:
        for i in range(args.images):
            writer.add(f"{i}", boxes=boxes, features=np.roll(features, i, 1), height=480, width=640,
                       class_probs=probs)  # fmt: skip


def assemble(table, rows, special, max_text):
    """[CLS] pieces [SEP], as the masked-language objective does it."""
    got, at = table.gather(rows, max_text - 2), np.arange(len(rows))
    length = got["lengths"] + 2
    ids = np.full((len(rows), max_text), special.pad, np.int32)
    starts = np.zeros((len(rows), max_text), bool)
    mask = np.arange(max_text) < length[:, None]
    ids[:, 1:-1][mask[:, 2:]] = got["ids"][mask[:, 2:]]
    starts[:, 1:-1] = got["word_starts"]
    ids[:, 0], starts[:, 0] = special.cls, True
    ids[at, length - 1], starts[at, length - 1] = special.sep, True
    segments = np.zeros_like(ids)
    return {"text_ids": ids[:, None], "text_mask": mask[:, None],
            "segment_ids": segments[:, None], "word_starts": starts[:, None]}  # fmt: skip


def timed(function, examples: int) -> dict[str, float]:
    """Wall and CPU seconds (all threads) of a call over so many examples."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"examples_per_s": examples / wall, "cpu_s_per_1000": cpu / examples * 1000,
            "cores": cpu / wall}  # fmt: skip


def make_stream(store: RegionStore, folder: str, args, block: int, texts: int = 2) -> Stream:
    """A training stream of random captions, `texts` an image, in blocks of `block` examples."""
    rng = np.random.default_rng(1)
    rows = [
        Row(key, " ".join(rng.choice(WORDS, 11)), f"{key}#{i}")
        for key in store.keys
        for i in range(texts)
    ]
    pathlib.Path(folder).mkdir(exist_ok=True)
    train_wordpiece([row.text for row in rows[:1000]], 400, f"{folder}/vocab.txt")
    tokenizer = Tokenizer.load(f"{folder}/vocab.txt")
    table = build_table(rows, tokenizer, f"{folder}/table", source="benchmark")
    options = common.stream_block((), args.batch)
    options.update(
        max_regions=args.regions + 1,
        max_length=64 + args.regions + 1,
        resize=(600, 1000),
        flip="boxes",
        block=block,
        order=args.order,
    )
    source = Source(table, np.arange(len(table)), store, store.rows_of(table.images))
    return Stream("captions", source, ConfigDict(options), assemble, tokenizer.vocab,
                  tokenizer.special, seed=0, batch_size=args.batch, training=True)  # fmt: skip


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
            assemble(stream._table, at, stream.special, 64)

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
        stream = make_stream(store, f"{folder}/cold-{block}", args, block, texts=1)
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


AHEAD = 2  # steps given to the device, as in training/ahead.py


class Stages:
    """Timers around functions: own wall and CPU time of each, without what it calls of the others.

    Attributes:
      seconds: {stage: [wall, CPU]}, over all threads.
    """

    def __init__(self):
        self.seconds = collections.defaultdict(lambda: [0.0, 0.0])
        self._local, self._lock = threading.local(), threading.Lock()

    @contextlib.contextmanager
    def timed(self, stage: str):
        """Adds the time within to a stage, and takes it from the stage around it."""
        stack = self._local.__dict__.setdefault("stack", [])
        inner = [0.0, 0.0]
        stack.append(inner)
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            took = time.perf_counter() - wall, time.thread_time() - cpu
            stack.pop()
            with self._lock:
                for i in range(2):
                    self.seconds[stage][i] += took[i] - inner[i]
            for i in range(2) if stack else ():
                stack[-1][i] += took[i]

    def wrap(self, stage: str, function):
        """The function with a timer."""

        def run(*args, **options):
            with self.timed(stage):
                return function(*args, **options)

        return run

    @contextlib.contextmanager
    def attached(self, stream: Stream, store: RegionStore):
        """Puts timers into a stream and its store, and takes them out again."""
        lock, stages = store._lock, self

        class Lock:
            """The store's lock, its waiting timed."""

            def __enter__(self):
                with stages.timed("wait for another reader"):
                    lock.acquire()

            def __exit__(self, *error):
                lock.release()

        places = [
            (os, "preadv", "read (system call)"),
            (xxhash, "xxh3_64_intdigest", "checksum"),
            (type(store.spec), "split_record", "decode: views of the record"),
            (store, "_announce", "announce reads to the system"),
            (store, "allocate", "allocate the batch"),
            (store, "_fill", "order, copy and pad regions"),
            (store, "read_into", "sizes and masks of regions"),
            (stream, "_plan", "plan: which examples"),
            (stream, "_assemble", "texts: gather and pad ids"),
            (limits, "cut_text", "cut texts"),
            (limits, "narrow", "cut texts"),
            (limits, "transform_boxes", "boxes: resize, flip, clip"),
            (stream, "batch", "rest of the batch"),
        ]
        with contextlib.ExitStack() as back:
            for owner, name, stage in places:
                own = name in vars(owner)
                before = getattr(owner, name)
                setattr(owner, name, self.wrap(stage, before))
                # A method found on the class must not stay behind as the instance's own.
                back.callback(*((setattr, owner, name, before) if own else (delattr, owner, name)))
            store._lock = Lock()
            back.callback(setattr, store, "_lock", lock)
            yield


def consume(stream: Stream, rate: float, threads: int, batches: int, place, stages=None) -> dict:
    """Feeds a device that takes `rate` examples a second, as the training loop does.

    Args:
      stream: of the batches.
      rate: examples a second that it could take.
      threads: of `pipeline.iterate`.
      batches: that are counted.
      place: place(batch) puts one on the device.
      stages: `Stages` that the placing is added to, or None.

    Returns:
      waiting: share of the device's time; examples_per_s; wait_ms_max of a batch; host_ms_p50 that
      fetching and placing a batch takes; cores.
    """
    busy = stream.batch_size / rate
    iterator = pipeline.iterate({"captions": stream}, threads=threads)
    for _ in range(8):  # TensorFlow's start, and the batches read ahead
        place(next(iterator))
    if stages:
        stages.seconds.clear()
        place = stages.wrap("place on the device", place)
    waits, host = [], []
    began, cpu = time.perf_counter(), time.process_time()
    done = began  # when the device is through with all it was given
    for _ in range(batches):
        # The host is a step ahead: it fetches while the device works on the batch before.
        time.sleep(max(0.0, done - (AHEAD - 1) * busy - time.perf_counter()))
        asked = time.perf_counter()
        place(next(iterator))
        ready = time.perf_counter()
        host.append(ready - asked)
        waits.append(max(0.0, ready - done))
        done = max(done, ready) + busy
    iterator.close()
    total = done - began
    return dict(
        waiting=sum(waits[1:]) / total,  # the first batch is always waited for
        examples_per_s=batches * stream.batch_size / total,
        wait_ms_max=1e3 * max(waits[1:]),
        host_ms_p50=1e3 * float(np.median(host)),
        cores=(time.process_time() - cpu) / total,
    )


def measure_consumer(store: RegionStore, stream: Stream, args) -> dict:
    """{"threads": {number: figures of `consume`}, "stages": {stage: µs an example}, ...}."""
    import jax

    from training import sharding

    mesh = sharding.make_mesh(ConfigDict(dict(data=-1, fsdp=1, tensor=1)))

    def place(batch):
        jax.block_until_ready(sharding.place(batch, mesh))

    for row in range(len(store)):  # brings the store into the page cache
        store.read(row)
    batches = max(2, args.examples // args.batch)
    found = {
        threads: consume(stream, args.consumer, threads, batches, place) for threads in args.threads
    }
    stages = Stages()
    with stages.attached(stream, store):
        timed = consume(stream, args.consumer, max(args.threads), batches, place, stages)
    # The readers are some batches ahead of the consumer, at the start as at the end.
    count = batches * stream.batch_size
    return dict(
        rate=args.consumer,
        threads=found,
        with_timers=timed,
        stages={
            stage: [1e6 * seconds / count for seconds in both]
            for stage, both in sorted(stages.seconds.items(), key=lambda item: -item[1][1])
        },
    )


def print_consumer(found: dict) -> None:
    """The tables of `measure_consumer`."""
    print(f"\na consumer of {found['rate']:,.0f} examples/s:")
    print("                       waiting  examples/s  most ms  host ms p50  cores")
    rows = {f"{n} threads": r for n, r in found["threads"].items()}
    for name, r in (rows | {"with timers": found["with_timers"]}).items():
        print(f"  {name:20s} {r['waiting']:7.2%}  {r['examples_per_s']:10,.0f}  "
              f"{r['wait_ms_max']:7.1f}  {r['host_ms_p50']:11.2f}  {r['cores']:5.2f}")  # fmt: skip
    print("\nmicroseconds an example, own time of each stage over all threads, with timers:")
    total = [sum(both[i] for both in found["stages"].values()) for i in range(2)]
    print(f"  {'':32s} {'CPU':>8s} {'share':>6s} {'wall':>8s}")
    for stage, (wall, cpu) in found["stages"].items():
        print(f"  {stage:32s} {cpu:8.1f} {cpu / total[1]:6.1%} {wall:8.1f}")
    print(f"  {'sum':32s} {total[1]:8.1f} {'':6s} {total[0]:8.1f}")


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", help="region store to read; default: a synthetic one")
    parser.add_argument("--images", type=int, default=4000, help="of the synthetic store")
    parser.add_argument("--regions", type=int, default=36)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1601)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--examples", type=int, default=20000, help="read for each figure")
    parser.add_argument("--block", type=int, default=0, help="shuffle blocks of neighbours")
    parser.add_argument("--cold", action="store_true", help="also read from the disk itself")
    parser.add_argument("--consumer", type=float, default=0, help="examples/s of a consumer")
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES), help="when synthetic")
    parser.add_argument("--order", default="confidence", choices=("stored", "confidence"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        if not args.store:
            args.store = f"{folder}/store"
            start = time.perf_counter()
            make_store(args.store, args)
            rate = args.images / (time.perf_counter() - start)
            print(f"wrote {args.images:,} images at {rate:,.0f}/s")
        store = RegionStore.open(args.store)
        args.regions = int(store.counts.max())
        size = store.spec.record_nbytes(round(store.counts.mean())) / 1e3
        shape = f"{args.regions} regions x {store.spec.feature_dim} {store.spec.dtype}"
        print(f"{len(store):,} images, up to {shape}, {size:.0f} kB each, batch {args.batch}, "
              f"{os.cpu_count()} cores")  # fmt: skip
        stream = make_stream(store, f"{folder}/texts", args, args.block)
        if args.consumer:
            found = measure_consumer(store, stream, args)
            print_consumer(found)
            if args.json:
                pathlib.Path(args.json).write_text(json.dumps(found, indent=2) + "\n")
            return
        results = measure(store, stream, args)
        cold = measure_cold(store, folder, args) if args.cold else {}
    p = results["parts_us"]
    print("\none thread, microseconds of CPU time an example:")
    for label, value in (
        ("read (warm disk)", p["read"] - p["hashes"]),
        ("hash", p["hashes"]),
        (f"copy to the batch ({args.order})", p["fill"] - p["read"]),
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
    results |= cold
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
