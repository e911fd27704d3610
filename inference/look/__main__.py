"""The command line of `inference.look`."""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import argparse
import sys
from collections.abc import Mapping, Sequence

import numpy as np

import inference
from core import arguments, remote
from core.console import command, say
from core.errors import DataError
from inference import look
from inference.images import Image, ImageReader
from inference.look import attention, content, examples, inputs, page, report
from inference.named import NamedImages, Pictures
from inference.tasks import TaskModel
from input_pipeline.doctor.sheet import class_names
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.regions.store import RegionStore

CAPTURE = ("attention", "hidden")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="python -m inference.look",
        description=look.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument(
        "run", nargs="?", default="", metavar="RUN",
        help="a run, a shared folder, a published file or a hub name; without one the page shows "
        "the regions alone",
    )  # fmt: skip
    out.add_argument("text", nargs="?", help="what the model reads beside the image")
    what = out.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", default="", metavar="ID", help="an image of the region store")
    what.add_argument(
        "--example", default="", metavar="ID",
        help="an example of the run's own data, as the model reads it when it predicts",
    )  # fmt: skip
    what.add_argument(
        "--report", default="", metavar="page.html",
        help="a page of --mode=predict, which gets links to pages of its worst examples",
    )  # fmt: skip
    out.add_argument("--examples", type=arguments.whole(1), default=20, help="of --report")
    out.add_argument("--split", default="", help="of the run's data; default: what it evaluates")
    out.add_argument(
        "--pair", type=arguments.whole(1), default=1, metavar="N",
        help="of --example: which choice of a question, or which image",
    )  # fmt: skip
    out.add_argument(
        "--regions", default="", metavar="STORE",
        help="region store, several with commas; default: that of the run's data set, whose "
        "pictures are then shown, too",
    )  # fmt: skip
    out.add_argument("--out", type=arguments.to_write, metavar="page.html")
    picture = out.add_mutually_exclusive_group()
    picture.add_argument("--picture", default="", metavar="FILE", help="of the image")
    picture.add_argument("--pictures", default="", metavar="FOLDER", help="has the image's by id")
    out.add_argument(
        "--class_names", default="", metavar="FILE", help="of the detector's classes, one per line"
    )
    out.add_argument("--second", default="", metavar="TEXT", help="the choice behind a question")
    out.add_argument("--task", default="", help="stream of the run, whose layout is taken")
    out.add_argument("--task_id", type=arguments.whole(0), help="for a model with task tokens")
    out.add_argument("--vocab", default="", metavar="FILE", help="of a published file")
    return out


@command
def main(argv: Sequence[str]) -> None:
    """Runs the command line; exit status 1 where something is wrong."""
    parse = parser()
    args = parse.parse_args(argv)
    _check(args, parse)
    if args.report:
        model = inference.load(args.run)
        written, folder = report.add_attention(
            args.report,
            args.examples,
            lambda stream, split: examples.Examples(model.checkpoint, stream, split),
            lambda pair, name: _of_pair(args, model, pair, name),
        )
        say(f"{args.report}: {written} pages of attention in {folder}")
        return
    of_data = _of_model if args.run else _of_store
    made = _of_example(args) if args.example else of_data(args)
    size = page.write(args.out, made)
    for note in made["notes"]:
        say(f"note: {note}")
    say(f"{args.out}: {size / 1e6:.2f} MB")


def _check(args: argparse.Namespace, parse: argparse.ArgumentParser) -> None:
    """Ends the program where arguments do not fit each other."""
    if not args.report and not args.out:
        parse.error("the following arguments are required: --out")
    if args.example or args.report:
        if not args.run:
            parse.error("--example and --report are of a run's own data: name RUN")
        if args.text is not None or args.regions or args.second or args.task_id is not None:
            parse.error("texts and regions of --example and --report are those of the run's data")
        return
    if args.run and args.text is None:
        parse.error('with RUN comes a text: python -m inference.look RUN "a red cube" ...')
    if not args.run and not args.regions:
        parse.error("without RUN, name the region store: --regions=STORE")
    if not args.run and (args.second or args.task or args.vocab or args.task_id is not None):
        parse.error("--second, --task, --task_id and --vocab are for a model: name RUN")


def _of_example(args: argparse.Namespace) -> dict:
    model = inference.load(args.run)
    pairs = examples.Examples(model.checkpoint, args.task, args.split).pairs(args.example)
    if args.pair > len(pairs):
        raise DataError(
            "the example has no such pair of a text and an image",
            where="--pair",
            expected=f"1 to {len(pairs)}",
            found=args.pair,
        )
    return _of_pair(args, model, pairs[args.pair - 1], args.example)


def _of_pair(args: argparse.Namespace, model: TaskModel, pair: examples.Pair, name: str) -> dict:
    shown = ", ".join(filter(None, [f"example {name}", pair.label, f"image {pair.image.key}"]))
    return _page(
        args,
        model,
        pair.text,
        shown,
        [],
        pair.image,
        model.checkpoint.spec,
        pair.batch,
        pair.pieces,
    )


def _of_store(args: argparse.Namespace) -> dict:
    store = RegionStore.open(args.regions)
    spec = store.spec
    image = ImageReader(spec, lambda: NamedImages(store)).read(args.image)
    regions = content.regions_of(image, spec, _names(args))
    return content.page(
        f"image {image.key}",
        [
            f"{len(regions.boxes)} regions in {regions.size[1]} × {regions.size[0]} pixels",
            f"features: {spec.feature_dim} numbers of {spec.detector}, "
            f"{spec.num_classes or 'no'} classes",
            f"store: {args.regions}",
        ],
        [],
        regions,
        _picture(args, image),
    )


def _of_model(args: argparse.Namespace) -> dict:
    model = inference.load(args.run, vocab=args.vocab, task_id=args.task_id)
    store = RegionStore.open(args.regions) if args.regions else None
    place = inputs.reader(model, args.task, store)
    made = inputs.make(place, args.image, args.text, second=args.second)
    title = " · ".join(filter(None, [args.text, args.second]))
    shown = f"image {made.image.key}"
    return _page(
        args, model, title, shown, _notes(made), made.image, place.spec, made.batch, made.pieces
    )


def _page(
    args: argparse.Namespace,
    model: TaskModel,
    title: str,
    shown: str,
    notes: Sequence[str],
    image: Image,
    spec: FeatureSpec,
    batch: Mapping[str, np.ndarray],
    pieces: Sequence[str],
) -> dict:
    """The page of a batch of one text and one image."""
    out = model(batch, capture=CAPTURE)
    row = {name: batch[name][0, 0] for name in ("text_mask", "region_mask")}
    example = attention.example_of(model.trunk, out, row)
    heads = sum(len(one.probs) for one in example.maps)
    return content.page(
        title,
        [
            f"{shown}, {example.words} word pieces, {example.regions} regions",
            f"{model.config.model.name} of {args.run}: {len(example.maps)} maps of attention, "
            f"{heads} heads",
        ],
        notes,
        content.regions_of(image, spec, _names(args), batch),
        _picture(args, image),
        pieces,
        example,
    )


def _notes(made: inputs.Inputs) -> list[str]:
    pieces, regions = made.cut
    return [
        f"{count} {what} had no room in the model's input and {'are' if count > 1 else 'is'} left "
        "out."
        for count, what in (
            (pieces, "word pieces" if pieces > 1 else "word piece"),
            (regions, "regions" if regions > 1 else "region"),
        )
        if count
    ]


def _names(args: argparse.Namespace) -> list[str]:
    return class_names(args.class_names) if args.class_names else []


def _picture(args: argparse.Namespace, image: Image) -> bytes | None:
    """The picture's file; None where nothing is named that would have it.

    Raises:
      DataError: what is named has none.
    """
    if args.picture:
        path = remote.path(args.picture)
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(
                "a picture cannot be read", where="--picture", expected="a file", found=str(error)
            ) from error
    if args.pictures:
        found = Pictures.of_folder(args.pictures).of([image.key])[image.key]
        if found is None:
            raise DataError(
                "the folder has no picture of the image",
                where="--pictures",
                expected=f"a file named after {image.key!r}",
                found=f"none in {args.pictures}",
                fix="name the file itself: --picture=FILE",
            )
        return found
    return image.picture


if __name__ == "__main__":
    sys.exit(main())
