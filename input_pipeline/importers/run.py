"""Drives an import: files of one layout -> one region store, in parallel, resumable.

The input is cut into parts; each becomes a small store of its own in `OUT.partial/`, and all of
them the store OUT at the end, by moving files. A run that was killed goes on where it was: the same
command skips the parts that are  `plan.json` there says what they were made of; another
input or option is refused. How the work is shared out changes nothing in the result. A store on
gs:// is made on this machine (`remote.cache()`) and uploaded at the end.
"""

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from core import remote
from core.console import say
from core.errors import DataError
from core.progress import Progress
from input_pipeline.importers import load
from input_pipeline.importers.base import Layout, Part
from input_pipeline.importers.parts import (
    IDS,
    ON_BAD,
    Job,
    PartImporter,
    count,
    merge,
    place,
    repeated,
    twice,
)
from input_pipeline.importers.plan import claimed, stamp
from input_pipeline.regions.region_writer import MANIFEST
from input_pipeline.regions.spec import GLOBAL_FEATURES, FeatureSpec
from input_pipeline.regions.store import split_paths

MIN_PART = 2**26  # bytes; below, starting a part would cost more than reading it
# A part has a shard at least, and a store keeps all shards open: few enough for any limit on files.
MAX_PARTS = 256


@dataclasses.dataclass(frozen=True)
class Imported:
    """What an import has written.

    Attributes:
      spec: of the store.
      images: in the store.
      skipped: images left out; `skipped.jsonl` in the store says which and why.
      rate: images a second of this run; those of earlier, interrupted runs do not count.
    """

    spec: FeatureSpec
    images: int
    skipped: int
    rate: float


def convert(
    layout: str,
    files: Sequence[str],
    out: str | os.PathLike,
    *,
    options: Mapping[str, Any] | None = None,
    detector: str = "",
    dtype: str = "bfloat16",
    top_k: int = 16,
    max_regions: int = 100,
    global_feature: str = "",
    ids: str = "as_is",
    workers: int = 1,
    part_size: int = 0,
    on_bad: str = "error",
) -> Imported:
    """Writes one region store from files of a layout.

    With several workers the calling script needs the `if __name__ == "__main__":` that any use of
    processes needs.

    Args:
      layout: name of a module here.
      files: its input, in the order of the store.
      out: folder to write; `OUT.partial` beside it is used meanwhile.
      options: of the layout (`Layout.add_arguments`); others keep their defaults.
      detector: name for the feature spec; empty: the layout's own, else "unknown".
      dtype: of the features on disk.
      top_k: class probabilities kept a region.
      max_regions: most boxes an image may have.
      global_feature: row 0 is the "mean" of the regions, or as "stored" in the input; empty: the
        layout's own, else the mean (VL-BERT's and ViLBERT's choice).
      ids: "as_is", or "number": the last number in an id, without leading zeros.
      workers: processes; 1 is this one.
      part_size: bytes of input a part, 0 chooses.
      on_bad: "error", or "skip": leave out images whose records are bad.

    Raises:
      DataError: an unknown option, unreadable input, a bad image, an id that occurs twice, or
        OUT.partial of another import. No store is left; finished parts are, for the next run.
    """
    out = remote.path(out)
    remote.require(out, "--out", write=True)
    for name, value, choices in (
        ("on_bad", on_bad, ON_BAD),
        ("ids", ids, IDS),
        ("global_feature", global_feature, ("", *GLOBAL_FEATURES)),
    ):
        if value not in choices:
            raise DataError(
                f"unknown --{name}", expected=f"one of {list(choices)}", found=repr(value)
            )
    if workers < 1 or part_size < 0:
        raise DataError(
            "--workers or --part_size is too small",
            expected="workers >= 1, part_size >= 0",
            found=f"workers={workers}, part_size={part_size}",
        )
    if remote.complete(out, MANIFEST):
        raise DataError(
            "the output folder exists already",
            where=str(out),
            expected="a path that is not there yet",
            found="a folder" if out.is_dir() else "a file",
            fix="remove it or choose another path",
        )
    for file in files:
        remote.refuse(
            file, "an import's input", "copy it (gcloud storage cp) or mount it (gcsfuse)"
        )
    files = [os.path.abspath(file) for file in files]
    stamps = [stamp(file) for file in files]
    options = _complete(layout, options or {})
    reader = load(layout).Layout(files, **options)
    size = part_size or max(MIN_PART, sum(nbytes for _, nbytes, _ in stamps) // MAX_PARTS)
    groups = _grouped(reader.parts(size))
    detector = detector or getattr(reader, "detector", "unknown")
    global_feature = global_feature or getattr(reader, "global_feature", "mean")
    spec = _first_spec(reader, groups, on_bad, detector=detector, dtype=dtype, top_k=top_k,
                       max_regions=max_regions, global_feature=global_feature)  # fmt: skip
    job = Job(layout, files, options, spec, ids, on_bad)
    cuts = [[dataclasses.astuple(part) for part in group] for group in groups]
    plan = {**dataclasses.asdict(job), "files": stamps, "part_size": part_size, "parts": cuts}
    # Files that options name (image sizes, an id map) decide what is read as much as the input.
    named = [path for v in options.values() if isinstance(v, str) for path in split_paths(v)]
    plan["option_files"] = [stamp(os.path.abspath(path)) for path in named if os.path.isfile(path)]
    here = remote.working_copy(out) if remote.is_remote(out) else out
    partial = here.with_name(out.name + ".partial")
    with claimed(partial, plan):
        folders = [partial / f"part-{number:05d}" for number in range(len(groups))]
        try:
            return _finish(job, reader, groups, folders, partial, out, workers)
        except BaseException as error:
            for leftover in partial.glob(".part-*"):  # of a worker that was killed
                shutil.rmtree(leftover)
            done = sum(folder.is_dir() for folder in folders)
            if not done or (done == len(folders) and not any(map(count, folders))):
                shutil.rmtree(partial)
            else:
                error.add_note(
                    f"  kept: {done} of {len(folders)} parts are finished in {partial}; the same "
                    "command goes on from there (a changed input starts anew: remove it first)"
                )
            raise


def _finish(job, reader, groups, folders, partial, out, workers) -> Imported:
    """Imports what is missing, merges, and names the result `out`."""
    todo = [number for number, folder in enumerate(folders) if not folder.is_dir()]
    if len(todo) < len(groups):
        say(f"import: {len(groups) - len(todo)} of {len(groups)} parts are there already")
    span = [sum(part.stop - part.start for part in group) for group in groups]
    unit, scale = ("MB", 1e6) if reader.unit == "bytes" else (reader.unit, 1)
    progress = Progress(f"import {job.layout}", sum(span[i] for i in todo) / scale, unit=unit)
    start, images = time.monotonic(), 0
    tasks = [(groups[i], folders[i], {}) for i in todo]
    for number, found in _work(job, reader, tasks, workers):
        images += found
        progress.add(span[todo[number]] / scale)
    rate = images / max(time.monotonic() - start, 1e-9)
    again = repeated(folders)
    if again and job.on_bad == "error":
        number, first = next(iter(again.items()))
        image_id, there = next(iter(first.items()))
        raise twice(image_id, there, place(folders[number], image_id))
    for number in again:
        shutil.rmtree(folders[number])
    for _ in _work(job, reader, [(groups[i], folders[i], first) for i, first in again.items()], 1):
        pass
    skipped = merge(folders, partial / "store", job.spec)
    images = sum(map(count, folders))
    if remote.is_remote(out):
        remote.upload_folder(partial / "store", out, last=MANIFEST)
    else:
        (partial / "store").rename(out)
    shutil.rmtree(partial)
    return Imported(job.spec, images, skipped, rate)


def _work(
    job: Job, reader: Layout, tasks: Sequence[tuple], workers: int
) -> Iterator[tuple[int, int]]:
    """(number of a task, its images) as they are done, here or in processes."""
    workers = min(workers, len(tasks))
    if workers <= 1:
        importer = PartImporter(job, reader)
        for number, task in enumerate(tasks):
            yield number, importer(*task)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
    stop = context.Event()
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start, (job, stop))
    try:
        # Ctrl-C reaches all processes, and this one decides: workers inherit that it is blocked.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = {pool.submit(_task, *task): number for number, task in enumerate(tasks)}
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise DataError(
            "a worker process died",
            where=f"one of {workers} workers",
            expected="workers that live until the end",
            found="one that was killed (short of memory?) or could not start (see above)",
            fix="run the same command again, with fewer --workers",
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


_job = _stop = _importer = None  # of a worker process


def _start(job: Job, stop) -> None:
    global _job, _stop
    _job, _stop = job, stop

    def follow() -> None:  # else workers of a killed parent would go on, beside those of the next
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _task(*task) -> int:
    global _importer
    if _importer is None:
        reader = load(_job.layout).Layout(_job.files, **_job.options)
        _importer = PartImporter(_job, reader, _stop.is_set)
    return _importer(*task)


def _complete(layout: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a layout, given ones and defaults."""
    parser = argparse.ArgumentParser(add_help=False)
    load(layout).Layout.add_arguments(parser)
    defaults = vars(parser.parse_args([]))
    if unknown := sorted(set(options) - set(defaults)):
        raise DataError(
            "unknown option of a layout",
            where=f"layout {layout!r}",
            expected=f"options among {sorted(defaults)}",
            found=unknown,
        )
    return {**defaults, **options}


def _grouped(parts: Sequence[Part]) -> list[list[Part]]:
    """At most MAX_PARTS runs of parts: a layout has a part a file at least."""
    step = -(-len(parts) // MAX_PARTS) or 1
    return [list(parts[i : i + step]) for i in range(0, len(parts), step)]


def _first_spec(reader: Layout, groups, on_bad: str, **fields):
    """The feature spec that the first readable image gives; all others must match it."""
    for where, raw in (e for group in groups for part in group for e in reader.entries(part)):
        try:
            item = reader.parse(where, raw)
        except DataError:
            if on_bad == "error":
                raise
            continue
        for name in ("features", "class_probs"):
            shape = np.shape(getattr(item, name))
            if getattr(item, name) is not None and len(shape) != 2:
                raise DataError(
                    f"{name} have the wrong shape", where=where, expected="[n, ...]", found=shape
                )
        classes = 0 if item.class_probs is None else np.shape(item.class_probs)[1]
        return FeatureSpec(
            feature_dim=np.shape(item.features)[1],
            num_classes=classes,
            background_class=reader.background_class if classes else None,
            **fields,
        )
    raise DataError(
        "no image can be read",
        expected="at least one image of this layout",
        found="none in all files" + (", bad ones left out" if on_bad == "skip" else ""),
        fix="check the layout's name and the files" + (", or see why with --on_bad error"
                                                       if on_bad == "skip" else ""),
    )  # fmt: skip
