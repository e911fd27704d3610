"""Clean splits: no training set has an image that any task is evaluated on. What that leaves.

A run with data.leaks=drop prints the table. By hand, from official files alone:

  python -m input_pipeline.streams.clean_splits --manual_dir=FILES [--image_data=image_data.json] \
      [--held_out=coco=coco_test_ids.npy] [--out=LISTS] vqa:trainval:minival+test-dev2015 \
      refcoco,variant=refcocog,split_by=umd:train:val+test flickr30k:train:val+test

Each argument is DATASET[,OPTION=VALUE...]:TRAINED[:EVALUATED], splits joined with "+"; FILES has
the official files, or a folder of each data set's name with them. LISTS is a new folder with the
union of the evaluated images: `<collection>.txt`, a name over data sets a line, which data.held_out
reads, and `<collection>_ids.npy`, ids alone, as 12-in-1's code reads. With image_data an image of
Visual Genome that is COCO's is in both.
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import dataclasses
import pathlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from core.console import command, say
from core.ids import split_namespace
from core.progress import atomic_folder
from input_pipeline.datasets.reading import named
from input_pipeline.streams import held_out, leaks
from input_pipeline.texts.rows import Skipped


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """What became of a training split.

    Attributes:
      split: its name.
      kept: texts that are trained on.
      dropped: {what holds their images out: texts}.
    """

    split: str
    kept: int
    dropped: Mapping[str, int]

    @property
    def share(self) -> float:
        """Of the texts, those that are left out."""
        dropped = sum(self.dropped.values())
        return dropped / max(self.kept + dropped, 1)


def table(parts: Sequence[tuple[str, Cleaned]]) -> str:
    """A line a training split and one for each reason, and what all have lost together.

    Args:
      parts: (stream, streams or data set, what became of it).
    """
    lines = [("training texts", "split", "kept", "left out", "share", "whose images are in")]
    kept, dropped = 0, 0
    for name, part in parts:
        own = sum(part.dropped.values())
        kept, dropped = kept + part.kept, dropped + own
        first, *more = [
            f"{_short(source)} ({count:,})" for source, count in Counter(part.dropped).most_common()
        ] or [""]
        share = f"{100 * part.share:.1f} %"
        lines.append((name, part.split, f"{part.kept:,}", f"{own:,}", share, first))
        lines += [("", "", "", "", "", reason) for reason in more]
    mean = sum(part.share for _, part in parts) / max(len(parts), 1)
    share = f"{100 * dropped / max(kept + dropped, 1):.1f} %"
    lines.append(("together", "", f"{kept:,}", f"{dropped:,}", share, ""))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.rjust(width) if 2 <= i <= 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.append(f"mean of the shares {100 * mean:.1f} %")
    return "clean splits: texts whose images are evaluated on are left out of training\n" + (
        "\n".join(text)
    )


def _short(source: str) -> str:
    """A source with its files' names alone."""
    split, of, paths = source.partition(" of ")
    return split + of + ", ".join(pathlib.PurePath(path).name for path in paths.split(", "))


@dataclasses.dataclass(frozen=True)
class _Part:
    """A data set of the command line.

    Attributes:
      named: its files, and its training split.
      evaluated: names over data sets of the images of its evaluated splits, each with its source.
    """

    named: named.Named
    evaluated: Sequence[leaks.HeldOut]


def _part(text: str, shared: Mapping[str, str]) -> _Part:
    """Reads an argument.

    Raises:
      DataError: it is none, or what is wrong with its files.
    """
    found = named.parse(text, shared, most=2)
    evaluated = [
        leaks.HeldOut(
            held_out.of_split(found.block.dataset, split, found.block), f"{found.name}:{split}"
        )
        for split in (found.splits[1].split("+") if len(found.splits) == 2 else ())
    ]
    return _Part(found, evaluated)


def _clean(
    part: _Part, held: Sequence[leaks.HeldOut], same: Mapping[str, str] | None
) -> tuple[Cleaned, list[str]]:
    """What becomes of a part's texts, and names over data sets of its images."""
    reader, trained = part.named.reader, part.named.splits[0]
    examples = [
        record.images for _, record in reader.records(trained) if not isinstance(record, Skipped)
    ]
    images = list(dict.fromkeys(image for own in examples for image in own))
    sources = leaks.find(images, reader.image_name, held, same)
    held_images = {images[i]: source for i, source in sources.items()}
    reasons: Counter[str] = Counter()
    for own in examples:
        if found := [held_images[image] for image in own if image in held_images]:
            reasons[found[0]] += 1
    kept = len(examples) - sum(reasons.values())
    return Cleaned(trained, kept, reasons), [*map(reader.image_name, images)]


def write_lists(folder: str, names: Iterable[str], same: Mapping[str, str] | None) -> list[str]:
    """Writes the union of evaluated images; see the module.

    Args:
      folder: new.
      names: of images, over data sets.
      same: `leaks.coco_names`, or None.

    Returns:
      Names of the files.

    Raises:
      DataError: the folder exists.
    """
    all_names = set(names)
    for genome, coco in (same or {}).items():
        if genome in all_names or coco in all_names:
            all_names |= {genome, coco}
    spaces: dict[str, set[str]] = defaultdict(set)
    for name in all_names:
        spaces[split_namespace(name)[0] or "images"].add(name)
    with atomic_folder(folder) as temporary:
        for space, own in sorted(spaces.items()):
            (temporary / f"{space}.txt").write_text("".join(f"{n}\n" for n in sorted(own)))
            np.save(temporary / f"{space}_ids.npy", held_out.as_array(own))
        return sorted(path.name for path in temporary.iterdir())


@command
def main(argv: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.streams.clean_splits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", nargs="+", metavar="DATASET:TRAINED[:EVALUATED]")
    parser.add_argument("--manual_dir", required=True, help="the official files")
    parser.add_argument("--image_data", default="", help="Visual Genome's image_data.json")
    parser.add_argument("--held_out", default="", help="more images, see data.held_out")
    parser.add_argument("--out", default="", help="new folder for the lists")
    args = parser.parse_args(argv)
    same = leaks.coco_names(args.image_data) if args.image_data else None
    shared = dict(manual_dir=args.manual_dir, held_out=args.held_out)
    parts = [_part(text, shared) for text in args.data]
    lists = held_out.read(parts[0].named.block) if args.held_out else []
    evaluated = [item for part in parts for item in part.evaluated]
    found = [_clean(part, [*lists, *evaluated], same) for part in parts]
    known = [
        held_out.Known(lists, names, [n for item in part.evaluated for n in item.names], same)
        for part, (_, names) in zip(parts, found, strict=True)
    ]
    held_out.require_sure(known)
    held_out.require_known(known)
    say(table([(part.named.name, made) for part, (made, _) in zip(parts, found, strict=True)]))
    if args.out:
        names = {name for item in (*lists, *evaluated) for name in item.names}
        say(f"wrote {args.out}: {', '.join(write_lists(args.out, names, same))}")


if __name__ == "__main__":
    sys.exit(main())
