"""VCR's leaderboard file and joint accuracy, from the predictions of two runs:

  python -m evaluation.submissions vcr --answers=A/predictions/test.jsonl \\
      --rationales=R/predictions/test.jsonl --out=leaderboard.csv
  python -m evaluation.submissions vcr-joint --answers=A/predictions/val.jsonl \\
      --rationales=R/predictions/val.jsonl
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import sys
from collections.abc import Sequence

from core.console import command, say
from evaluation import prediction_file
from evaluation.submissions import vcr


@command
def main(argv: Sequence[str]) -> None:
    """The commands of this module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.submissions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("vcr", "the leaderboard's file"), ("vcr-joint", "accuracy of two runs")):
        one = commands.add_parser(name, help=text)
        one.add_argument("--answers", required=True, help="predictions with task=answers")
        one.add_argument("--rationales", required=True, help="those with task=rationales")
    commands.choices["vcr"].add_argument("--out", required=True, help="file to write")
    args = parser.parse_args(argv)
    answers, rationales = (
        vcr.chosen(prediction_file.read(path)) for path in (args.answers, args.rationales)
    )
    if args.command == "vcr":
        with prediction_file.text_file(args.out) as file:
            file.writelines(vcr.leaderboard(answers, rationales))
        say(args.out)
        return
    found = vcr.joint_accuracy(answers, rationales)
    say("\n".join(f"{name:<5}{100 * value:6.2f} %" for name, value in found.items()))


if __name__ == "__main__":
    sys.exit(main())
