"""Region features of a known layout -> region store.

  python -m input_pipeline.importers LAYOUT FILES... --out STORE [options]
  python -m input_pipeline.importers LAYOUT --help      # the layout's files and options

The same command resumes a run that was stopped.
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

from core import arguments
from core.console import command, say, warn
from input_pipeline.datasets.reading import coverage
from input_pipeline.importers import known, load, run
from input_pipeline.importers.arrange import CLASS_SCORES
from input_pipeline.importers.elsewhere import Engine
from input_pipeline.importers.settings import IDS, ON_BAD, ImportSettings
from input_pipeline.regions.spec import DTYPES, GLOBAL_FEATURES
from input_pipeline.regions.store import RegionStore

PROGRAM = "python -m input_pipeline.importers"
# The options that all layouts share.
COMMON = {field.name for field in dataclasses.fields(ImportSettings)} - {"options"}


def overview() -> str:
    """What there is, for --help."""
    layouts = known()
    width = max(map(len, layouts))
    return f"{__doc__}\nlayouts:\n" + "".join(
        f"  {name:{width}}  {line}\n" for name, line in layouts.items()
    )


def parser_of(layout: str, program: str = PROGRAM) -> argparse.ArgumentParser:
    """The command line of one layout.

    Args:
      layout: its name.
      program: that reads it, for --help.

    Raises:
      DataError: no such layout.
    """
    module = load(layout)
    parser = argparse.ArgumentParser(
        prog=f"{program} {layout}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, settings in {
        "files": dict(nargs="+", help="input, in the order of the store"),
        "--out": dict(required=True, help="folder of the new region store"),
        "--detector": dict(default="", help="name kept in the feature spec"),
        "--dtype": dict(default="bfloat16", choices=list(DTYPES), help="of the features on disk"),
        "--top_k": dict(
            type=arguments.whole(0), default=16, help="class probabilities kept per region"
        ),
        "--max_regions": dict(
            type=arguments.whole(1), default=100, help="most boxes an image may have"
        ),
        "--global_feature": dict(
            default="",
            choices=("", *GLOBAL_FEATURES),
            help="whole image: mean of its regions, or as stored in the input; default: mean, for "
            "pictures what the extractor says",
        ),
        "--class_scores": dict(
            default="",
            choices=CLASS_SCORES,
            help="with_background: distributions, one column is the background (default); "
            "without_background: classes of objects alone, what rows lack of 1 is the "
            "background's; drop: leave them out",
        ),
        "--resized": dict(
            default="",
            metavar="SHORT,LONG",
            help="boxes are of pictures resized to these pixels of the shorter side, and at most "
            "these of the longer (800,1333): they are scaled back",
        ),
        "--ids": dict(
            default="as_is",
            choices=IDS,
            help="number: the last number in an id, without leading zeros, as in COCO annotations",
        ),
        "--workers": dict(type=arguments.whole(1), default=os.cpu_count() or 1, help="processes"),
        "--part_size": dict(
            type=arguments.whole(0), default=0, help="bytes of input per part, 0 chooses"
        ),
        "--on_bad": dict(
            default="error",
            choices=ON_BAD,
            help="skip: leave out bad images and list them in STORE/skipped.jsonl",
        ),
        "--needs": dict(
            default="",
            help="report how many images of these there are: JSONL, .txt of ids, DATASET:SPLIT",
        ),
        "--needs_key": dict(default="image_id", help="key of the id in a JSONL file of --needs"),
        "--manual_dir": dict(default="", help="official files of --needs DATASET:SPLIT"),
    }.items():
        parser.add_argument(name, **settings)
    module.Layout.add_arguments(parser.add_argument_group("this layout's options"))
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    if not argv or argv[0].startswith("-"):
        if {"-h", "--help"} & set(argv):
            say(overview())
            return 0
        warn(f"error: the layout comes first\n{overview()}")
        return 2
    imported(argv[0], vars(parser_of(argv[0]).parse_args(argv[1:])))
    return 0


def imported(layout: str, options: dict[str, Any], engine: Engine | None = None) -> None:
    """Does an import, and tells what came of it.

    Args:
      layout: its name.
      options: what `parser_of` has read.
      engine: see `run.convert`.

    Raises:
      DataError: see `run.convert`.
    """
    files, out = options.pop("files"), options.pop("out")
    needs, key = options.pop("needs"), options.pop("needs_key")
    manual_dir = options.pop("manual_dir")
    # Before hours of work, not after.
    images = coverage.needed(needs, key, manual_dir) if needs else {}
    common = {name: options.pop(name) for name in COMMON}
    done = run.convert(layout, files, out, ImportSettings(options=options, **common), engine)
    say(f"wrote {out}: {done.images:,} images at {done.rate:,.0f}/s: {done.spec}")
    for note, (number, where) in done.notes.items():
        say(f"note: {number:,} images: {note} (first: {where})")
    if done.skipped:
        say(f"left out {done.skipped:,} bad images: see {out}/skipped.jsonl")
        if done.skipped > done.images:
            warn(f"warning: more than half of all images were bad, the first: {done.reason}")
    if not done.spec.num_classes:
        say(
            "no class distributions: masked regions cannot be trained by class, masked words and "
            "alignment can"
        )
    if needs:
        coverage.report(RegionStore.open(out), images, needs)


if __name__ == "__main__":
    sys.exit(main())
