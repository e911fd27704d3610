"""Work on an engine that Beam knows: on each of some items, somewhere, with results in files."""

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from core import remote
from core.errors import ConfigError, DataError, UserError

Item = TypeVar("Item")
FAILED = "failed-"  # files of what went wrong, by number of the item


class Engine:
    """Runs work on an engine: DirectRunner (this machine), DataflowRunner, FlinkRunner, ..."""

    def __init__(self, flags: Sequence[str]):
        """Starts nothing yet.

        Args:
          flags: options of Beam and of its runner, such as --runner=DataflowRunner.

        Raises:
          ConfigError: an option that Beam does not know.
        """
        parsers: list[argparse.ArgumentParser] = []
        PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
        unknown = parsers[0].parse_known_args(list(flags))[1]
        if unknown:
            raise ConfigError(
                "unknown options",
                expected="options of this command (--help), or of Beam and its runner",
                found=" ".join(unknown),
                fix="check the spelling; options are written --name=value",
            )
        self._flags = list(flags)
        # Logs a traceback for each error that is told here.
        logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)

    def each(
        self, work: Callable[[Item], None], items: Sequence[Item], place: remote.Path, label: str
    ) -> None:
        """Has work(item) done for each item.

        Engines may repeat an item after a failure, or do it twice at once: what `work` leaves in
        files must be whole at any time, and the same each time. Items are few and large (some
        hundred parts of an import), each a bundle of its own.

        Args:
          work: picklable, of a module that workers can import.
          items: picklable.
          place: folder that all workers can write to, for messages of what went wrong.
          label: of the step, in the engine's pages.

        Raises:
          DataError: of the first item, in their order, of which one is known when the pipeline has
            ended.
          Exception: whatever else the engine ends with.
        """
        for leftover in _failures(place):
            (place / leftover).unlink()
        try:
            with beam.Pipeline(options=PipelineOptions(self._flags)) as pipeline:
                numbered = pipeline | "items" >> beam.Create(list(enumerate(items)))
                # Else an engine may run all items one after the other, fused with what lists them.
                _ = numbered | "spread" >> beam.Reshuffle() | label >> beam.ParDo(_Do(work, place))
        except Exception as error:
            for name in _failures(place):
                told = json.loads((place / name).read_text())
                raise DataError(told) from error
            raise


class _Do(beam.DoFn):
    """Does the work on an item; unpickled once per worker, so `work` may keep what it loads."""

    def __init__(self, work: Callable[[Any], None], place: remote.Path):
        self._work, self._place = work, str(place)

    def process(self, numbered: tuple[int, Any]) -> None:
        number, item = numbered
        try:
            self._work(item)
        except UserError as error:
            # What the engine hands back is its own text around a traceback; on some, nothing.
            path = remote.path(self._place) / f"{FAILED}{number:05d}.json"
            remote.replace(path, json.dumps(str(error)).encode())
            raise


def _failures(place: remote.Path) -> list[str]:
    """Names of what `_Do` has left, in the order of the items."""
    there = remote.sizes(place) if place.is_dir() or remote.is_remote(place) else {}
    return sorted(name for name in there if name.startswith(FAILED))
