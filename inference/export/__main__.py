"""The command line of `inference.export`."""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import sys
from collections.abc import Sequence

from core import arguments
from core.console import command, say
from inference import export
from inference.export import artifact, task
from inference.loading import load
from objectives.model import DTYPES


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m inference RUN export",
        description=export.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("place", metavar="RUN", help="run, or shared folder")
    made.add_argument("--out", required=True, help="new folder")
    made.add_argument("--verb", default="", choices=["", *task.KNOWN])
    made.add_argument("--task", default="", help="stream of the run, where several could answer")
    made.add_argument("--batch_sizes", type=_sizes, default=(1, 8, 32), help="commas between")
    made.add_argument("--platforms", type=_names, default=artifact.PLATFORMS, help="of them")
    made.add_argument("--onnx", action="store_true", help="ONNX models, too (needs jax2onnx)")
    made.add_argument("--masks", type=arguments.whole(1), help="of fill_mask: masks of a text")
    made.add_argument("--top", type=arguments.whole(1), help="of fill_mask: pieces for each")
    made.add_argument("--dtype", default="", choices=["", *DTYPES], help="else as it was trained")
    return made


def _sizes(value: str) -> tuple[int, ...]:
    return tuple(arguments.whole(1)(part) for part in value.split(","))


def _names(value: str) -> tuple[str, ...]:
    return tuple(value.split(","))


@command
def main(argv: Sequence[str]) -> None:
    """Runs the command line."""
    given = parser().parse_args(argv)
    options = {
        name: value for name, value in (("masks", given.masks), ("top_k", given.top)) if value
    }
    made = artifact.write(
        load(given.place, dtype=given.dtype),
        given.out,
        given.verb,
        task=given.task,
        batch_sizes=given.batch_sizes,
        platforms=given.platforms,
        onnx=given.onnx,
        **options,
    )
    numbers = sum(array.size for array in made.weights.values())
    say(f"{given.out}: {made.verb} of {made.stream}, {numbers:,} numbers; reads {made.inputs}")


if __name__ == "__main__":
    sys.exit(main())
