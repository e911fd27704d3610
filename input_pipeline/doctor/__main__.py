"""The command line of `input_pipeline.doctor`."""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import os
import sys
from collections.abc import Sequence

from core import remote
from core.console import command, say
from core.errors import DataError
from input_pipeline import doctor
from input_pipeline.doctor import compare as comparison
from input_pipeline.doctor import options, report
from input_pipeline.doctor.checkpoints import saved_spec
from input_pipeline.doctor.examine import Examination, against_checkpoint, examine
from input_pipeline.doctor.sheet import Pictures, Sheet, class_names
from input_pipeline.doctor.sources import LayoutSource, StoreSource, open_source
from input_pipeline.doctor.verify import coverage, verify
from input_pipeline.importers.settings import IDS

DEFAULT_IMAGES = 300
SIDES = ("a_", "b_")  # before an option of `compare` that is for one side alone


def _images(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number >= 1, or all")
    return int(text)


def parser_of(layout: str) -> argparse.ArgumentParser:
    """The command line; with a layout, its options are shown.

    Raises:
      DataError: no such layout.
    """
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.doctor",
        description=doctor.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="what a store or raw files hold")
    inspect.add_argument("paths", nargs="+", metavar="PATH", help="store folders, or raw files")
    compare = commands.add_parser(
        "compare",
        help="are these the same features?",
        description=comparison.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_argument("a", help="store or raw files, comma-separated")
    compare.add_argument("b", help="store or raw files, comma-separated")
    compare.add_argument(
        "--ids", default="as_is", choices=IDS, help="number: compare the last numbers in ids"
    )
    for one in (inspect, compare):
        one.add_argument("--layout", default="", help="of raw files; else the one that fits")
        one.add_argument(
            "--images",
            type=_images,
            default=DEFAULT_IMAGES,
            help=f"how many, or all; default {DEFAULT_IMAGES}",
        )
        one.add_argument("--json", default="", help="file to write everything to")
        options.add_to(one, layout, ("",) if one is inspect else ("", *SIDES))
    for side in SIDES:
        compare.add_argument(
            f"--layout_{side[0]}", default="", help=f"of {side[0]} alone; --{side}NAME: its options"
        )
    add = inspect.add_argument
    add("--checkpoint", default="", help="a run: may its model read these features?")
    add("--pictures", default="", help="folder of the images themselves")
    add("--sheet", default="", help="PNG file to draw boxes on pictures to; needs --pictures")
    add("--class_names", default="", help="one name per line, for --sheet")
    one = commands.add_parser("verify", help="check every record of a store")
    one.add_argument("store", help="folder(s), comma-separated")
    one.add_argument("--checkpoint", default="", help="a run: may its model read the store?")
    two = commands.add_parser("coverage", help="does a store have the images of annotations?")
    two.add_argument("store", help="folder(s), comma-separated")
    two.add_argument("annotations", help="JSONL file, .txt of ids, or DATASET:SPLIT")
    two.add_argument("--image_id", default="image_id", help="key of the image's id in JSONL")
    two.add_argument("--manual_dir", default="", help="folder of the official files")
    return parser


def _require_folder(path: str) -> None:
    """Checks before the work whether a result can be written."""
    remote.refuse(path, "what the doctor writes", "write it here, then gcloud storage cp")
    if path and not os.path.isdir(os.path.dirname(path) or "."):
        raise DataError(
            "a result cannot be written",
            where=path,
            expected="a file in a folder that exists",
            found=f"no folder {os.path.dirname(path)!r}",
        )


def _inspect(args: argparse.Namespace) -> int:
    if args.sheet and not args.pictures:
        raise DataError("no pictures to draw on", expected="--pictures DIR", found="--sheet alone")
    if args.sheet and not args.sheet.endswith(".png"):
        raise DataError("a sheet is a PNG file", expected="--sheet NAME.png", found=args.sheet)
    _require_folder(args.sheet)
    saved = saved_spec(args.checkpoint) if args.checkpoint else None
    source = open_source(args.paths, args.layout, options.given(vars(args)))
    if isinstance(source, LayoutSource) and not args.layout:
        say(f"layout      {source.layout} fits, and no other")
    pictures = Pictures(args.pictures) if args.pictures else None
    sheet = None
    if args.sheet:
        names = class_names(args.class_names) if args.class_names else []
        sheet = Sheet(pictures, names, source.background_class)
    result = examine(source, args.images, pictures, sheet)
    if saved:
        finding = against_checkpoint(*saved, source, result.statistics)
        if finding:
            result = Examination(result.statistics, [finding, *result.findings])
    say(report.text(result))
    if args.json:
        result.write(args.json)
    if sheet:
        say(f"sheet       {sheet.draw(args.sheet)} pictures in {args.sheet}")
        if args.class_names and not sheet.named:
            say("            regions are numbered: there are no classes to name")
    return result.verdict != "sound"


def _sides(args: argparse.Namespace) -> list[StoreSource | LayoutSource]:
    """Both sides of a comparison. An option without prefix is for the sides that have it.

    Raises:
      DataError: a side cannot be opened, or no side has an option.
    """
    values, found = vars(args), []
    shared = options.given(values)
    for prefix in SIDES:
        side = prefix[0]
        layout = values[f"layout_{side}"] or args.layout
        found.append(open_source([values[side]], layout, options.given(values, prefix), shared))
    taken = set().union(*(source.options for source in found if isinstance(source, LayoutSource)))
    if unused := sorted(set(shared) - taken):
        raise DataError(
            "no side of a comparison has an option",
            where=f"{args.a} and {args.b}",
            expected=", ".join(f"--{name}" for name in sorted(taken)) or "none: both are stores",
            found=", ".join(f"--{name}" for name in unused),
            fix="leave it out",
        )
    return found


@command
def main(argv: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--layout", default="")
    args = parser_of(early.parse_known_args(argv)[0].layout).parse_args(argv)
    _require_folder(getattr(args, "json", ""))
    if args.command == "inspect":
        return int(_inspect(args))
    if args.command == "compare":
        a, b = _sides(args)
        result = comparison.compare(a, b, args.images, args.ids)
        say(comparison.table(result))
        if args.json:
            result.write(args.json)
        return int(not result.same)
    if args.command == "verify":
        return int(verify(args.store, args.checkpoint) > 0)
    return int(coverage(args.store, args.annotations, args.image_id, args.manual_dir) > 0)


if __name__ == "__main__":
    sys.exit(main())
