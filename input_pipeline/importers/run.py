"""Drives an import: files of one layout -> one region store, in parallel, resumable.

The input is cut into parts; each becomes a small store of its own in `OUT.partial/`, and all of
them the store OUT at the end, by moving files. The same command resumes an interrupted run: it
skips finished parts. `plan.json` there records what they were made of; another input or option is
refused. The number of parts and workers changes nothing in the result. A store on gs:// is made on
this machine (`remote.cache()`) and uploaded at the end; where other machines do the parts
(`elsewhere`), they write them to gs:// themselves, and shards are copied there.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from core import disk, progress, remote
from core.console import warn
from core.errors import DataError
from input_pipeline.importers import elsewhere, load
from input_pipeline.importers.base import Part, parts_of
from input_pipeline.importers.first_spec import first_spec
from input_pipeline.importers.parts import Job
from input_pipeline.importers.plan import claimed, stamp
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.importers.unfinished import Import, Imported, mirrored
from input_pipeline.regions.shard_writer import MANIFEST
from input_pipeline.regions.store import split_paths

MIN_PART = 2**26  # bytes; below, starting a part would cost more than reading it
# A part has a shard at least, and a store keeps all shards open: few enough for any limit on files.
MAX_PARTS = 256


def convert(
    layout: str,
    files: Sequence[str],
    out: str | os.PathLike,
    settings: ImportSettings | None = None,
    engine: elsewhere.Engine | None = None,
) -> Imported:
    """Writes one region store from files of a layout.

    With several workers the calling script needs the `if __name__ == "__main__":` that any use of
    processes needs.

    Args:
      layout: name of a module here.
      files: its input, in the order of the store.
      out: folder to write; `OUT.partial` beside it is used meanwhile.
      settings: how; None: the defaults.
      engine: has parts done on other machines, which see OUT.partial and the input under these
        names; None: this machine does them, and its input is here.

    Raises:
      DataError: an unknown option, unreadable input, a bad image, an id that occurs twice, or
        OUT.partial of another import. No store is left; finished parts are, for the next run.
    """
    settings, out = settings or ImportSettings(), remote.path(out)
    settings.check()
    if engine:  # whose workers have another working folder
        out = remote.absolute(out)
    _check_output(out)
    for file in files if engine is None else ():
        remote.refuse(
            file, "an import's input", "copy it (gcloud storage cp) or mount it (gcsfuse)"
        )
    files = [file if remote.is_remote(file) else os.path.abspath(file) for file in files]
    stamps = [stamp(file) for file in files]
    options = _complete(layout, settings.options)
    with contextlib.ExitStack() as stack:
        # Of inputs that are elsewhere the first one tells what is the same for all.
        reader = stack.enter_context(elsewhere.opened(layout, files, options, [0]))
        least = getattr(reader, "least_part", MIN_PART)
        size = settings.part_size or max(least, sum(nbytes for _, nbytes, _ in stamps) // MAX_PARTS)
        if engine and elsewhere.has_remote(files, options):
            work = elsewhere.InputWork(layout, files, options, size)
            parts, notices = elsewhere.cut_elsewhere(engine, work, len(files), out)
        else:
            parts = parts_of(reader, files, size)
            notices = getattr(reader, "notices", ())
        for notice in notices:
            warn(notice)
        groups = _grouped(parts)
        job = Job(
            layout,
            files,
            options,
            first_spec(reader, elsewhere.read_by(reader, groups), settings),
            settings.ids,
            settings.on_bad,
            settings.class_scores,
            settings.resized,
        )
        plan = {
            **dataclasses.asdict(job),
            "files": stamps,
            "part_size": settings.part_size,
            "parts": [[dataclasses.astuple(part) for part in group] for group in groups],
            "option_files": _files_named_by(options),
        }
        place = out.with_name(out.name + ".partial")
        partial = pathlib.Path(place)
        if remote.is_remote(out):
            stack.enter_context(progress.alone(place) if engine else contextlib.nullcontext())
            partial = mirrored(place) if engine else remote.working_copy(out).with_name(place.name)
        stack.enter_context(disk.explained(partial))
        stack.enter_context(claimed(partial, plan))
        if engine is None or not remote.is_remote(out):
            place = partial
        else:
            remote.replace(place / "plan.json", (partial / "plan.json").read_bytes())
        workers = min(settings.workers, getattr(reader, "most_workers", settings.workers))
        unfinished = Import(job, reader, groups, partial, place, engine or workers)
        try:
            with disk.explained(partial):
                return unfinished.finish(out)
        except BaseException as error:
            unfinished.keep(error)
            raise


def _check_output(out: remote.Path) -> None:
    """Raises DataError if a store cannot be written there, or something is there."""
    remote.require(out, "--out", write=True)
    if remote.complete(out, MANIFEST):
        raise DataError(
            "the output folder exists already",
            where=str(out),
            expected="a path that is not there yet",
            found="a folder" if out.is_dir() else "a file",
            fix="remove it or choose another path",
        )


def _files_named_by(options: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Stamps of files that options name (image sizes, an id map).

    They decide what is read as much as the input does.
    """
    texts = [value for value in options.values() if isinstance(value, str)]
    paths = [path for text in texts for path in split_paths(text)]
    here = [stamp(os.path.abspath(path)) for path in paths if os.path.isfile(path)]
    return here + [stamp(path) for path in paths if remote.is_remote(path)]


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
    """At most MAX_PARTS groups of consecutive parts: a layout has a part per file at least."""
    step = -(-len(parts) // MAX_PARTS) or 1
    return [list(parts[i : i + step]) for i in range(0, len(parts), step)]
