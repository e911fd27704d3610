"""RoIAlign, RoIPool and non-maximum suppression, beside torchvision's compiled operators.

  python benchmarks/vision.py                    # ours
  python benchmarks/vision.py --peer             # and torchvision's, in turns

One picture of 600 x 1000 pixels: 300 boxes on a map of 38 x 63 cells and 1024 channels, and 6,000
candidates of which 300 are kept. Prints milliseconds (median and least of the rounds) of compiled
functions, and with --peer how far the results are apart. On a CPU the peer is given all cores.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from core import arguments, tables
from core.console import say
from vl_models.vision.nms import nms
from vl_models.vision.resnet import STRIDE
from vl_models.vision.roi_align import roi_align
from vl_models.vision.roi_pool import roi_pool_batch

OVERLAP = 0.7
Run = Callable[[], np.ndarray]


def made(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """A map [H, W, C], boxes [N, 4] on it, candidates [M, 4] in clusters, and their scores."""
    rs = np.random.RandomState(0)
    height, width = options.rows * STRIDE, options.columns * STRIDE

    def boxes(count: int) -> np.ndarray:
        low = rs.uniform(0, [width * 0.8, height * 0.8], (count, 2))
        high = low + rs.uniform(0.05, 0.5, (count, 2)) * [width, height]
        return np.concatenate([low, np.minimum(high, [width, height])], 1).astype(np.float32)

    centres = boxes(max(1, options.candidates // 10))
    near = centres[rs.randint(0, len(centres), options.candidates)]
    return dict(
        features=rs.standard_normal((options.rows, options.columns, options.channels)).astype(
            np.float32
        ),
        boxes=boxes(options.boxes),
        candidates=(near + rs.normal(0, 8, near.shape)).astype(np.float32),
        scores=rs.standard_normal(options.candidates).astype(np.float32),
    )


def ours(data: dict[str, np.ndarray], options: argparse.Namespace) -> dict[str, Run]:
    """{operator: a call of it}, compiled at the first one."""
    placed = {name: jnp.asarray(x) for name, x in data.items()}
    features, boxes = placed["features"][None], placed["boxes"][None]

    def align(samples: int) -> Run:
        run = jax.jit(
            lambda f, b: roi_align(f, b, scale=1 / STRIDE, size=options.bins, samples=samples)[0]
        )
        return lambda: np.asarray(run(features, boxes))

    pool = jax.jit(lambda f, b: roi_pool_batch(f, b, options.bins, 1 / STRIDE)[0])
    suppress = jax.jit(lambda b, s: nms(b, s, OVERLAP, options.kept))

    def kept() -> np.ndarray:
        index, mask = jax.device_get(suppress(placed["candidates"], placed["scores"]))
        return index[mask]

    return {
        "RoIAlign, 1 sample": align(1),
        "RoIAlign, 2 x 2 samples": align(2),
        "RoIPool": lambda: np.asarray(pool(features, boxes)),
        "suppression": kept,
    }


def peers(data: dict[str, np.ndarray], options: argparse.Namespace) -> dict[str, Run]:
    """The same of torchvision, with channels last in what comes back."""
    import torch
    import torchvision.ops as ops

    torch.set_num_threads(os.cpu_count() or 1)
    features = torch.from_numpy(data["features"].transpose(2, 0, 1).copy())[None]
    boxes = torch.nn.functional.pad(torch.from_numpy(data["boxes"]), (1, 0))
    candidates, scores = (torch.from_numpy(data[name]) for name in ("candidates", "scores"))

    def shaped(run: Callable[[], torch.Tensor]) -> Run:
        return lambda: run().permute(0, 2, 3, 1).numpy()

    size, scale = options.bins, 1 / STRIDE
    return {
        "RoIAlign, 1 sample": shaped(lambda: ops.roi_align(features, boxes, size, scale, 1)),
        "RoIAlign, 2 x 2 samples": shaped(lambda: ops.roi_align(features, boxes, size, scale, 2)),
        "RoIPool": shaped(lambda: ops.roi_pool(features, boxes, size, scale)),
        "suppression": lambda: ops.nms(candidates, scores, OVERLAP)[: options.kept].numpy(),
    }


def measure(sides: dict[str, dict[str, Run]], rounds: int) -> list[dict]:
    """A row per operator; the sides take turns, so that a busy machine is busy for both."""
    rows = []
    for name in sides["ours"]:
        results = {side: runs[name]() for side, runs in sides.items()}  # compiles
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, runs in sides.items():
                began = time.perf_counter()
                runs[name]()
                seconds[side].append(time.perf_counter() - began)
        row: dict = {"operator": name}
        for side, found in seconds.items():
            row[f"{side}_ms"] = 1e3 * statistics.median(found)
            row[f"{side}_least_ms"] = 1e3 * min(found)
        if "torchvision" in sides:
            mine, theirs = results["ours"], results["torchvision"]
            same = mine.shape == theirs.shape
            row["difference"] = float(np.abs(mine - theirs).max(initial=0)) if same else None
        rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    """The rows for people."""
    sides = [key.removesuffix("_least_ms") for key in rows[0] if key.endswith("_least_ms")]
    header = ["", *(f"{side}, ms (least)" for side in sides)]
    lines = [
        [row["operator"], *(f"{row[f'{s}_ms']:.1f} ({row[f'{s}_least_ms']:.1f})" for s in sides)]
        for row in rows
    ]
    if "difference" in rows[0]:
        header.append("largest difference")
        for line, row in zip(lines, rows, strict=True):
            found = row["difference"]
            line.append("other shapes" if found is None else f"{found:.2g}")
    return tables.columns([header, *lines], right=range(1, len(header)))


def main(argv: list[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = arguments.whole(1)
    for name, default, told in (
        ("rows", 38, "of the map"),
        ("columns", 63, "of the map"),
        ("channels", 1024, "of the map"),
        ("boxes", 300, "that are pooled"),
        ("bins", 14, "along each side of a box"),
        ("candidates", 6000, "of the suppression"),
        ("kept", 300, "of them, at most"),
        ("rounds", 10, "of each"),
    ):
        parser.add_argument(f"--{name}", type=whole, default=default, help=told)
    parser.add_argument("--peer", action="store_true", help="torchvision's operators, too")
    parser.add_argument("--json", help="file to write the rows to")
    options = parser.parse_args(argv)
    if options.peer and importlib.util.find_spec("torchvision") is None:
        parser.error("--peer needs torchvision: pip install torch torchvision")
    data = made(options)
    sides = {"ours": ours(data, options)}
    if options.peer:
        sides["torchvision"] = peers(data, options)
    rows = measure(sides, options.rounds)
    say(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores")
    say(table(rows))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
