"""Where the time of a train step goes, by part of the model, as the device's own trace tells it.

  python benchmarks/step_parts.py --model=vlbert --size=base --batch=256 --dtype=bfloat16
  python benchmarks/step_parts.py --model=vilbert --size=mini --batch=8 --trace=/tmp/trace

Some steps at the stream's own size (see train_step.py) are run under `jax.profiler`. Each operation
of the compiled program that took time is counted to the part of the model that its metadata names,
forward or backward; what XLA fused out of several parts counts to that of the fusion's last
operation. Printed are the parts and the longest operations, in milliseconds a step. Times are the
operations' own: gaps between them are the step's time by the clock less their sum, on a device with
one queue; on a CPU they add up over threads.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
# Kernels that are launched as one CUDA graph do not tell which operation they are of.
os.environ["XLA_FLAGS"] = f"--xla_gpu_enable_command_buffer= {os.environ.get('XLA_FLAGS', '')}"

import jax
import numpy as np

from benchmarks import train_step
from benchmarks.ours import Ours, draw_lengths
from configs import models
from core import arguments, tables
from core.console import say
from objectives.model import DTYPES
from vl_models import layers

# Parts by what stands in an operation's name; the first that fits.
PARTS = (
    ("attention, output's norm", r"attention/(norm|add|Dropout_1)"),
    # Forward the norm's result is narrowed, backward the gradient of the scores.
    ("attention, output's norm", r"^(?!.*transpose\().*attention/convert"),
    ("attention, projections", r"attention/(query|key|value|output)"),
    ("attention, its map", r"attention"),
    ("feed-forward, norm", r"mlp/(norm|add|Dropout)"),
    ("feed-forward", r"mlp"),
    ("pooler", r"pooler"),
    ("embedding", r"embed|regions"),
    ("trunk, rest", r"ViLBert|VLBert|layer_\d+"),
    ("masked words", r"MaskedLanguageHead"),
    ("other heads", r"Classifier|Linear"),
    ("losses and gathering", r"jvp"),
    ("corruption", r"vmap|fold_in|argsort|sort"),
)  # fmt: skip
# Operations that last as long as those within them.
ENCLOSING = re.compile(r"(cond|conditional|while|call)[.\d]*")
UPDATE = "update and the rest"
METADATA = re.compile(r'%?([\w.\-]+) = [^\n]*?op_name="([^"]*)"')


def names_of(text: str) -> dict[str, str]:
    """{operation: the name in its metadata} of a compiled program's text."""
    return dict(METADATA.findall(text))


def part_of(name: str) -> tuple[str, bool]:
    """(the part that an operation's metadata names, whether it is of the backward pass)."""
    backward = "transpose(" in name
    return next((part for part, found in PARTS if re.search(found, name)), UPDATE), backward


def events(folder: pathlib.Path) -> Iterator[tuple[str, int]]:
    """(operation, nanoseconds) of all events of a trace that tell their operation.

    Raises:
      FileNotFoundError: there is no trace.
    """
    found = sorted(folder.glob("**/*.xplane.pb"))
    if not found:
        raise FileNotFoundError(f"{folder}: no *.xplane.pb, the profiler wrote nothing")
    planes = list(jax.profiler.ProfileData.from_file(str(found[-1])).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in devices or planes:
        for line in plane.lines:
            for event in line.events:
                told = dict(event.stats)
                operation = str(told.get("hlo_op", ""))
                if operation and not ENCLOSING.fullmatch(operation):
                    yield operation, int(event.duration_ns)


def measure(args: argparse.Namespace) -> dict:
    """Milliseconds a step: {"clock", "parts": {part: (forward, backward)}, "longest": rows}."""
    config = train_step.make_config(args, args.model, args.size)
    train_step.check_devices(config)
    count = max(train_step.POOL, 16 * args.batch)
    lengths = draw_lengths(np.random.default_rng(0), count, config.streams.captions, args.regions)
    ours = Ours(config, lengths)
    ours.warm_up()
    ours.take_turn(args.steps)
    clock = 1e3 * float(np.median(ours.results()["full"]["seconds"]))
    with contextlib.ExitStack() as stack:
        folder = args.trace or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        began = time.perf_counter()
        with jax.profiler.trace(str(folder)):
            ours.take_turn(args.steps)
        traced = 1e3 * (time.perf_counter() - began) / args.steps
        seen: collections.Counter[str] = collections.Counter()
        runs: collections.Counter[str] = collections.Counter()
        for operation, nanoseconds in events(folder):
            seen[operation] += nanoseconds
            runs[operation] += 1
        text = ours.text()
        (folder / "program.hlo").write_text(text)
    names = names_of(text)
    parts: dict[str, list[float]] = {}
    longest = []
    for operation, nanoseconds in seen.most_common():
        name = names.get(operation, "")
        part, backward = part_of(name)
        milliseconds = nanoseconds / 1e6 / args.steps
        parts.setdefault(part, [0.0, 0.0])[backward] += milliseconds
        longest.append(
            dict(operation=operation, ms=milliseconds, runs=runs[operation] / args.steps, name=name)
        )
    return dict(
        device=jax.devices()[0].device_kind,
        model=args.model,
        size=args.size,
        batch=args.batch,
        dtype=args.dtype,
        clock_ms=clock,
        traced_ms=traced,
        operations_ms=sum(seen.values()) / 1e6 / args.steps,
        kernels=sum(runs.values()) / args.steps,
        parts=parts,
        longest=longest,
    )


def rows(found: dict, count: int) -> list[dict]:
    """The figures one after the other: of the step, of each part, of the longest operations."""
    step = {name: value for name, value in found.items() if name not in ("parts", "longest")}
    parts = [
        dict(part=part, forward_ms=forward, backward_ms=backward)
        for part, (forward, backward) in found["parts"].items()
    ]
    return [step, *parts, *found["longest"][:count]]


def table(found: dict, count: int) -> str:
    """The figures for people: all parts, and the `count` longest operations."""
    total = found["operations_ms"]
    rows = [
        [part, f"{forward:.3f}", f"{backward:.3f}", f"{(forward + backward) / total:.1%}"]
        for part, (forward, backward) in sorted(
            found["parts"].items(), key=lambda pair: -sum(pair[1])
        )
    ]
    parts = tables.columns([["", "forward, ms", "backward, ms", "share"], *rows], right=(1, 2, 3))
    rows = [
        [one["operation"], f"{one['ms']:.3f}", f"{one['runs']:.0f}", one["name"][-90:]]
        for one in found["longest"][:count]
    ]
    longest = tables.columns([["operation", "ms", "runs", "of"], *rows], right=(1, 2))
    return f"{parts}\n\n{longest}"


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vlbert", choices=sorted(train_step.CONFIGS))
    parser.add_argument("--size", default="base", choices=sorted(models.SIZES))
    parser.add_argument("--batch", type=arguments.whole(1), default=8)
    parser.add_argument("--text_batch", type=arguments.whole(0), default=0)
    parser.add_argument("--steps", type=arguments.whole(1), default=3)
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES))
    parser.add_argument("--regions", default="10-36", help="of an image: a number, or LOW-HIGH")
    parser.add_argument("--remat", default="none", choices=sorted(layers.REMAT))
    parser.add_argument(
        "--trace", type=pathlib.Path, help="folder to keep the trace and program.hlo in"
    )
    parser.add_argument("--longest", type=arguments.whole(1), default=25, help="operations shown")
    parser.add_argument("--json", type=arguments.to_write, help="also write these figures there")
    args = parser.parse_args(argv)
    args.buckets, args.accumulate, args.mesh = "", 1, (1, 1, 1)
    found = measure(args)
    say(
        f"{found['device']}, {args.model} {args.size}, {args.batch} captions, {args.dtype}: "
        f"{found['clock_ms']:.2f} ms a step by the clock ({found['traced_ms']:.2f} traced), "
        f"{found['operations_ms']:.2f} ms in {found['kernels']:.0f} operations\n"
    )
    print(table(found, args.longest))
    if args.json:
        found_rows = rows(found, args.longest)
        pathlib.Path(args.json).write_text(json.dumps(found_rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
