"""The command line of `input_pipeline.pictures`."""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import sys
from collections.abc import Sequence

from core.console import command
from core.errors import DataError
from input_pipeline import pictures
from input_pipeline.pictures import build


@command
def main(argv: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.pictures",
        description=pictures.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", help="a store of folders, zip archives or a TFDS data set")
    make.add_argument("paths", nargs="*", metavar="PATH", help="folders and zip archives")
    make.add_argument("--out", required=True, help="new folder")
    make.add_argument("--ids", default="path", choices=build.IDS)
    make.add_argument("--on_bad", default="error", choices=build.ON_BAD)
    make.add_argument("--tfds", default="", help="NAME/CONFIG:SPLIT")
    make.add_argument("--tfds_image", default="image", help="feature that holds the picture")
    make.add_argument("--tfds_id", default="", help="feature that names it, such as image/filename")
    make.add_argument("--tfds_dir", default=None, help="where the data set was built")
    check = commands.add_parser("verify", help="read and decode every picture")
    check.add_argument("store", help="folder(s), comma-separated")
    args = parser.parse_args(argv)
    if args.command == "verify":
        return int(build.verify(args.store) > 0)
    if bool(args.paths) == bool(args.tfds):
        raise DataError(
            "a picture store is built of one kind of source",
            expected="folders and archives, or --tfds",
            found="both" if args.tfds else "neither",
        )
    if args.tfds:
        found = build.from_tfds(args.tfds, args.tfds_image, args.tfds_id, args.tfds_dir)
    else:
        found = build.from_paths(args.paths)
    build.build(found, args.out, named=args.ids, on_bad=args.on_bad)
    return 0


if __name__ == "__main__":
    sys.exit(main())
