"""How far this device is from the originals: golden files, in float32 and bfloat16.

  python benchmarks/correctness.py                    # a file of each model
  VL_GOLDEN_DIR=folder python benchmarks/correctness.py --files="v*_pretrain*.npz"

Weights go in through the converter, losses, logits and gradients are compared with what the
published PyTorch code printed on a CPU. Three precisions:

  float32 exact      matrix products in full float32 (`jax.default_matmul_precision("highest")`)
  float32            as the backend does them by default: TF32 on NVIDIA, bfloat16 on TPUs
  bfloat16           as accelerators train

"float32 exact" must be within the tolerances of the tests, else the exit status is 1; the others
are shown. Of logits and gradients it is the error's norm over the expected one's: of a file's
outputs the worst, of gradients the median and the worst parameter whose gradient is not about zero,
by its norm and by its product with the file's random probe.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

import golden_files
import golden_pretraining
import jax
import numpy as np

from core import arguments

PRECISIONS = {
    "float32 exact": ("float32", "highest"),
    "float32": ("float32", "default"),
    "bfloat16": ("bfloat16", "default"),
}
FILES = ("vlbert_pretrain_multitask.npz", "vilbert_pretrain_kl.npz")


def _within(case: golden_pretraining.Case, run) -> str:
    """What the tests' tolerances say: "" or the first that is not met."""
    try:
        case.check(run)
    except AssertionError as error:
        return " ".join(str(error).split())[:200]
    return ""


def _errors(case: golden_pretraining.Case, run) -> dict[str, float]:
    total, logits, _, grads = run
    expected = float(case.golden["out/loss"])
    worst = max(
        float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
        for wanted, found in case.outputs(logits).values()
    )
    pairs = []
    for key, wanted in case.golden.arrays.items():
        name = key.removeprefix("grad/")
        if name == key or wanted[0] < 1e-5:  # what is zero in exact arithmetic has no direction
            continue
        found = golden_files.pair(name, grads[name])
        pairs.append(float(np.abs(found - wanted).max() / wanted[0]))
    return dict(
        loss_error=abs(float(total) - expected) / abs(expected),
        logits_error=worst,
        gradient_error_median=float(np.median(pairs)),
        gradient_error_worst=max(pairs),
    )


def measure(path: pathlib.Path, precisions: Sequence[str]) -> list[dict]:
    """A row for each precision."""
    rows = []
    for name in precisions:
        dtype, precision = PRECISIONS[name]
        asked = time.perf_counter()
        with jax.default_matmul_precision(precision):
            case = golden_pretraining.case(path, dtype)
            run = case.run()
        rows.append(
            dict(
                file=path.stem,
                precision=name,
                device=jax.devices()[0].device_kind,
                **_errors(case, run),
                outside=_within(case, run),
                seconds=time.perf_counter() - asked,
            )
        )
    return rows


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    head = (
        "file",
        "precision",
        "loss",
        "logits",
        "gradients, median",
        "worst",
        "tests' tolerances",
    )
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    names = "loss_error", "logits_error", "gradient_error_median", "gradient_error_worst"
    for row in rows:
        cells = [row["file"], row["precision"], *(f"{row[name]:.1e}" for name in names)]
        cells.append("outside" if row["outside"] else "within")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv=None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", nargs="+", default=FILES, help="patterns of golden files")
    parser.add_argument(
        "--precisions", type=arguments.some_of(list(PRECISIONS)), default=list(PRECISIONS)
    )
    parser.add_argument("--json", type=arguments.to_write, help="also write all rows to this file")
    args = parser.parse_args(argv)
    try:
        paths = [path for pattern in args.files for path in golden_files.files(pattern)]
    except FileNotFoundError as error:
        parser.error(str(error))
    rows = [row for path in paths for row in measure(path, args.precisions)]
    print(table(rows))
    for row in rows:
        print(json.dumps(row))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")
    failed = [row for row in rows if row["precision"] == "float32 exact" and row["outside"]]
    for row in failed:
        print(f"{row['file']} is outside in float32: {row['outside']}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
