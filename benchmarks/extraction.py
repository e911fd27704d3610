"""Pictures a second of region extraction, by the Visual Genome detector's network.

  python benchmarks/extraction.py --dtype=bfloat16 --batch=8           # ResNet-101, 600 x 1000
  python benchmarks/extraction.py --depth=50 --short=224 --long=320    # on a CPU

Parameters and pictures are random, so every picture gets all of its proposals and boxes: the work
of the busiest picture. Printed are the milliseconds a picture of the host (resizing and padding, in
threads), of the device (from pixels to boxes), and of both as an extractor has them, one after the
other. Reading and decoding files is `python -m input_pipeline.importers pictures`, beside it.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np

from checkpoints.detector import Detector
from core import arguments
from core.console import say
from inference.detector import PictureDetector
from objectives.model import DTYPES
from vl_models import loading
from vl_models.vision import faster_rcnn
from vl_models.vision.canvas import Pixels
from vl_models.vision.faster_rcnn import DetectorSizes, Selection
from vl_models.vision.resnet import BLOCKS, ResNetSizes


def made(args: argparse.Namespace) -> PictureDetector:
    """The detector with random parameters."""
    sizes = DetectorSizes(
        resnet=ResNetSizes(
            blocks=BLOCKS[args.depth],
            stem=args.width,
            inner=args.width,
            outer=4 * args.width,
            max_pool="caffe",
            dtype=args.dtype,
        )
    )
    params = faster_rcnn.initial_parameters(sizes, jax.random.key(0))["params"]
    detector = Detector(
        sizes, loading.flatten(params), pixels=Pixels(short=args.short, long=args.long)
    )
    selection = Selection(
        candidates=20 * args.proposals, proposals=args.proposals, least=args.boxes, most=args.boxes
    )
    return PictureDetector(detector, selection, batch_size=args.batch)


def _seconds(run: Callable[[], object], rounds: int) -> float:
    """The median, after a call that compiles."""
    run()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return float(np.median(found))


def measure(args: argparse.Namespace) -> dict:
    """Milliseconds a picture of the parts, and pictures a second of all."""
    detector = made(args)
    shape = (args.batch, args.short * 3 // 4, args.long * 3 // 4, 3)
    pictures = list(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    inputs = detector.prepared(pictures)
    placed = detector.placed(*inputs)
    began = time.perf_counter()
    detector.run(*placed)
    compiling = time.perf_counter() - began
    host, device, both = (
        1e3 * _seconds(run, args.rounds) / args.batch
        for run in (
            lambda: detector.prepared(pictures),
            lambda: jax.block_until_ready(detector.run(*placed)),
            lambda: detector(pictures),
        )
    )
    stats = jax.devices()[0].memory_stats() or {}
    return dict(
        device=jax.devices()[0].device_kind,
        dtype=args.dtype,
        depth=args.depth,
        canvas="x".join(map(str, inputs[0].shape[1:3])),
        batch=args.batch,
        proposals=args.proposals,
        boxes=args.boxes,
        host_ms=host,
        device_ms=device,
        ms=both,
        pictures_per_second=1e3 / both,
        compile_seconds=compiling,
        peak_gb=stats["peak_bytes_in_use"] / 1e9 if "peak_bytes_in_use" in stats else None,
    )


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = arguments.whole(1)
    parser.add_argument("--depth", type=int, default=101, choices=sorted(BLOCKS), help="of ResNet")
    parser.add_argument("--width", type=whole, default=64, help="of its first stage")
    for name, default, told in (
        ("short", 600, "side of the pictures as the network sees them"),
        ("long", 1000, "the other side"),
        ("proposals", 300, "of a picture"),
        ("boxes", 36, "of a picture"),
        ("batch", 8, "pictures of a call"),
        ("rounds", 5, "of each part"),
    ):
        parser.add_argument(f"--{name}", type=whole, default=default, help=told)
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES), help="of products")
    parser.add_argument("--json", type=arguments.to_write, help="also write the figures there")
    args = parser.parse_args(argv)
    if args.short > args.long or args.boxes > args.proposals:
        parser.error("--short must not exceed --long, nor --boxes --proposals")
    row = measure(args)
    say(
        f"{row['device']}, ResNet-{row['depth']}, {row['canvas']} pixels, {row['dtype']}, batches "
        f"of {row['batch']}: {row['pictures_per_second']:.1f} pictures/s; a picture takes "
        f"{row['host_ms']:.1f} ms of the host and {row['device_ms']:.1f} ms of the device"
    )
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps([row], indent=2) + "\n")


if __name__ == "__main__":
    main()
