"""Does a model of some speed wait for its batches? A device pretended on the clock finds out.

Each batch keeps it busy for batch / rate seconds, while the host fetches the next one, as in
training. In a second run the functions of the pipeline carry timers: own time of every stage.
"""

import collections
import contextlib
import os
import threading
import time

import numpy as np
import xxhash
from ml_collections import ConfigDict

from input_pipeline.regions import RegionStore
from input_pipeline.streams import limits, pipeline
from input_pipeline.streams.stream import Stream

AHEAD = 2  # steps given to the device, as in training/run/ahead.py


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
            (store, "_prefetch", "announce reads to the system"),
            (store, "allocate", "allocate the batch"),
            (store, "_fill", "order, copy and pad regions"),
            (store, "read_into", "sizes and masks of regions"),
            (stream._plan, "draw", "plan: which examples"),
            (stream._texts, "read", "texts: gather and pad ids"),
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


def measure(store: RegionStore, stream: Stream, args) -> dict:
    """{"threads": {number: figures of `consume`}, "stages": {stage: µs an example}, ...}."""
    import jax

    from runtime import sharding

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


def show(found: dict) -> None:
    """Prints the tables of `measure`."""
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
