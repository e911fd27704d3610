"""Compares the predictions of two runs: what one gets right and the other wrong, as one page.

  python -m evaluation.browser runs/a runs/b --split=validation --out=compared.html

A run is its folder, or a page of predictions itself (WORKDIR/report/predict-<split>.html, which
--mode=predict writes). Printed are the counts and the p value of McNemar's test.
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import sys
from collections.abc import Sequence

from core import arguments, remote
from core.console import command, say
from core.errors import DataError
from evaluation.browser import page


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="python -m evaluation.browser",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument("first", metavar="RUN", help="a run's folder, or its page")
    out.add_argument("second", metavar="RUN")
    out.add_argument(
        "--split", default="", help="of the runs' pages, where they have pages of several"
    )
    out.add_argument("--out", required=True, type=arguments.to_write, metavar="page.html")
    return out


@command
def main(argv: Sequence[str]) -> None:
    """Runs the command line; exit status 1 where something is wrong."""
    args = parser().parse_args(argv)
    places = [_page_of(place, args.split) for place in (args.first, args.second)]
    first, second = map(page.read, places)
    made = page.compared(first, second, _names(first, second, (args.first, args.second)))
    size = page.write(args.out, made)
    found = made["mcnemar"]
    if found:
        a, b = made["runs"]
        say(
            f"right: both {found['both']:,}, only {a} {found['first']:,}, only {b} "
            f"{found['second']:,}, neither {found['neither']:,}\n"
            f"McNemar's test ({found['method']}): p = {found['p']:.3g}"
        )
    say(f"{args.out}: {size / 1e6:.2f} MB")


def _names(first: dict, second: dict, places: Sequence[str]) -> list[str]:
    """The runs' names; their places where these are the same."""
    names = [first["runs"][0], second["runs"][0]]
    if names[0] != names[1]:
        return names
    return list(places) if places[0] != places[1] else [f"{names[0]} (1)", f"{names[1]} (2)"]


def _page_of(place: str, split: str) -> remote.Path:
    """The page of a run's predictions.

    Raises:
      DataError: none, or several of which none is named.
    """
    path = remote.path(place)
    if path.is_file():
        return path
    found = sorted((path / "report").glob("predict-*.html"))
    if split:
        wanted = f"predict-{split}.html".replace("/", "-")
        found = [one for one in found if one.name == wanted]
    if len(found) != 1:
        raise DataError(
            "a run has no such page of predictions" if not found else "a run has several pages",
            where=place,
            expected=f"report/predict-{split or '<split>'}.html",
            found=", ".join(one.name for one in found) or "none",
            fix="name one: --split=SPLIT"
            if found
            else f"python main.py --workdir={place} --mode=predict",
        )
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
