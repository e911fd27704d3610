"""Made-up regions for images that have none, so that a run goes from end to end. They mean nothing.

  python scripts/made_up_regions.py --manual_dir=FILES --out=STORES --real=coco=STORE \
      coco=vqa:train2014+val2014 coco=coco_captions:train2017 gqa=gqa:train_balanced vcr=vcr:train

Each argument is NAME=DATASET[,OPTION=VALUE...]:SPLIT, splits joined with "+"; arguments of one NAME
are of one collection of images and share the store STORES/NAME. Its images are those of the
records. What `--real` has of them is taken as it is; the others get the boxes that their records
speak of and random ones beside them, with random features and class distributions, the same each
time. All stores have one feature spec, of which the detector's name says that regions are made up,
and so does every checkpoint that is trained on them. Accuracy on them is no one's.
"""

import argparse
import collections
import dataclasses
import pathlib
import sys
import zlib
from collections.abc import Iterable, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np

from core import arguments
from core.console import command, say
from core.errors import DataError
from input_pipeline.datasets.reading import named
from input_pipeline.regions import FeatureSpec, RegionWriter
from input_pipeline.regions.store import RegionStore
from input_pipeline.texts.rows import Skipped

MADE_UP = "made up where there are none"
SIZE = (480, 640)  # height and width of a picture that nobody knows


@dataclasses.dataclass
class Image:
    """What records say of an image.

    Attributes:
      boxes: xyxy in pixels, each once, in the records' order.
      size: (height, width), as far as they tell.
    """

    boxes: dict[tuple[float, ...], None] = dataclasses.field(default_factory=dict)
    size: tuple[int, int] = (0, 0)


def boxes_of(record) -> list[tuple[float, ...]]:
    """The boxes that a record speaks of: a target, candidates, objects."""
    found = [*getattr(record, "boxes", ())]
    found += [one.box for one in getattr(record, "objects", ())]
    found += [b for b in getattr(record, "candidates", ()) if isinstance(b, tuple)]
    found += [record.box] if any(getattr(record, "box", ())) else []
    return [tuple(map(float, box)) for box in found]


def images_of(data: named.Named) -> dict[str, Image]:
    """{image id: what the records of a data set say of it}."""
    out: dict[str, Image] = collections.defaultdict(Image)
    for _, record in data.reader.records(data.splits[0]):
        if isinstance(record, Skipped):
            continue
        for image_id in record.images:
            out[image_id].boxes |= dict.fromkeys(boxes_of(record))
            if hasattr(record, "height"):
                out[image_id].size = (record.height, record.width)
    return out


def made_up(image_id: str, image: Image, spec: FeatureSpec, count: int) -> dict:
    """Arguments of `RegionWriter.add`, the same each time.

    Args:
      image_id: its id, which is the seed.
      image: its boxes come first.
      spec: of the features.
      count: regions in all, where its own boxes are fewer.
    """
    rng = np.random.default_rng(zlib.crc32(image_id.encode()))
    own = np.asarray([*image.boxes], np.float32).reshape(-1, 4)[: spec.max_regions]
    height, width = image.size if any(image.size) else SIZE
    if len(own) and not any(image.size):
        width = max(width, int(np.ceil(own[:, 2].max())))
        height = max(height, int(np.ceil(own[:, 3].max())))
    more = max(count - len(own), 0 if len(own) else 1)
    ends = np.sort(rng.uniform(0, 1, (more, 2, 2)), 1) * (width, height)
    boxes = np.concatenate([own, ends.reshape(-1, 4).astype(np.float32)])
    features = np.abs(rng.standard_normal((len(boxes) + 1, spec.feature_dim))).astype(np.float32)
    made = dict(boxes=boxes, features=features[1:], height=height, width=width)
    if spec.num_classes:
        made["class_probs"] = rng.dirichlet(np.full(spec.num_classes, 0.05), len(boxes))
    if spec.global_feature == "stored":
        made["global_feature"] = features[0]
    return made


def write(
    folder: pathlib.Path,
    images: dict[str, Image],
    spec: FeatureSpec,
    real: RegionStore | None,
    count: int,
) -> int:
    """Writes one store; returns how many images have real regions.

    Raises:
      DataError: the folder exists, or boxes that no image can have.
    """
    rows = real.rows_of([*images]) if real else np.full(len(images), -1)
    with RegionWriter(folder, spec) as writer:
        for (image_id, image), row in zip(images.items(), rows.tolist(), strict=True):
            if real is None or row < 0:
                writer.add(image_id, **made_up(image_id, image, spec, count), source=MADE_UP)
                continue
            record = {name: array.copy() for name, array in real.read(row).items()}
            arrays = record | {"rows": real.features_of(record)}
            size = int(real.heights[row]), int(real.widths[row])
            writer.add_checked(image_id, arrays, *size, where=real.where(row))
    return int((rows >= 0).sum())


def _pair(text: str, what: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if not equals or not name.isidentifier() or not rest:
        raise DataError("no name of a store", where=text, expected=f"NAME={what}", found=text)
    return name, rest


def _spec(real: Iterable[RegionStore], args: argparse.Namespace) -> FeatureSpec:
    """One spec for all: of the real stores, or as asked for."""
    found = [store.spec for store in real]
    if not found:
        return FeatureSpec(MADE_UP, args.feature_dim, dtype="float32")
    for other in found[1:]:
        if other != found[0]:
            raise DataError(
                "real stores are of different specs",
                where="--real",
                expected=str(found[0]),
                found=str(other),
                fix="name stores of one detector",
            )
    return dataclasses.replace(found[0], detector=f"{found[0].detector}, {MADE_UP}")


@command
def main(argv: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", metavar="NAME=DATASET:SPLIT")
    parser.add_argument("--manual_dir", required=True, help="the official files")
    parser.add_argument("--out", required=True, help="folder of the new stores")
    parser.add_argument("--real", action="append", default=[], metavar="NAME=STORE")
    parser.add_argument("--regions", type=arguments.whole(1), default=12, help="of an image")
    parser.add_argument(
        "--feature_dim", type=arguments.whole(1), default=128, help="without a real store"
    )
    args = parser.parse_args(argv)
    real = {name: RegionStore.open(place) for name, place in (_pair(t, "STORE") for t in args.real)}
    stores: dict[str, dict[str, Image]] = {}
    for text in args.data:
        name, rest = _pair(text, "DATASET:SPLIT")
        images = stores.setdefault(name, {})
        for image_id, image in images_of(
            named.parse(rest, dict(manual_dir=args.manual_dir))
        ).items():
            known = images.setdefault(image_id, image)
            known.boxes |= image.boxes
            known.size = known.size if any(known.size) else image.size
    if unused := sorted(set(real) - set(stores)):
        raise DataError(
            "real regions of a store that is not made",
            where=f"--real={unused[0]}=...",
            expected=f"one of {sorted(stores)}",
            found=unused[0],
        )
    spec = _spec(real.values(), args)
    for name, images in stores.items():
        there = write(pathlib.Path(args.out, name), images, spec, real.get(name), args.regions)
        say(
            f"{args.out}/{name}: {len(images)} images, {there} with real regions, "
            f"{len(images) - there} with made-up ones"
        )
    say(f"feature spec: {spec}")


if __name__ == "__main__":
    sys.exit(main())
