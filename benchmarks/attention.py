"""Attention by itself, forward and backward: what the model runs beside what JAX offers.

  python benchmarks/attention.py --batch=256 --lengths 65 101 128

  plain          the model's own: softmax in float32, dropout by position (vl_models/layers.py)
  no dropout     the same without dropout, as the others below have none
  xla, cudnn     jax.nn.dot_product_attention of that implementation; cuDNN's needs an NVIDIA GPU

Each takes turns with the others on the same rows, of which the last quarter of positions is masked.
Printed are milliseconds (median), how much longer plain takes without dropout, and the largest
difference of the outputs from those of plain without dropout; a line of JSON follows.
"""

import argparse
import functools
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from core import arguments
from objectives.model import DTYPES
from vl_models import dropout, layers

RATE = 0.1


def _plain(query, key, value, mask, seed, *, rate: float):
    def drop(probs):
        return dropout.Dropout(rate).apply({}, probs, train=True, rngs={"dropout": seed})

    return layers.attend(query, key, value, mask, drop)[0]


def _offered(query, key, value, mask, seed, *, implementation: str):
    del seed
    return jax.nn.dot_product_attention(
        query, key, value, mask=mask[:, None, None, :], implementation=implementation
    )


WAYS = {
    "plain": functools.partial(_plain, rate=RATE),
    "no dropout": functools.partial(_plain, rate=0.0),
    "xla": functools.partial(_offered, implementation="xla"),
    "cudnn": functools.partial(_offered, implementation="cudnn"),
}


def _timed(way):
    """way's output and the gradients of its sum, compiled."""

    def run(query, key, value, mask, seed):
        def total(*arrays):
            mixed = way(*arrays, mask, seed)
            return mixed.astype(jnp.float32).sum(), mixed

        (_, mixed), grads = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(query, key, value)
        return mixed, grads

    return jax.jit(run)


def measure(args, length: int) -> list[dict]:
    """A row of figures for each way that this device has."""
    shape = (args.batch, length, args.heads, args.width)
    keys = jax.random.split(jax.random.key(0), 3)
    arrays = [jax.random.normal(key, shape, DTYPES[args.dtype]) for key in keys]
    mask = jnp.broadcast_to(jnp.arange(length) < length - length // 4, shape[:2])
    given = (*arrays, mask, jax.random.key(1))
    programs, mixed, failed = {}, {}, {}
    for name, way in WAYS.items():
        try:
            programs[name] = _timed(way).lower(*given).compile()
            mixed[name] = np.asarray(programs[name](*given)[0], np.float32)
        except (RuntimeError, ValueError, NotImplementedError) as error:  # cuDNN, elsewhere
            programs.pop(name, None)
            failed[name] = str(error).splitlines()[0]
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(args.rounds):
        for name, program in programs.items():
            asked = time.perf_counter()
            jax.block_until_ready(program(*given))
            times[name].append(1e3 * (time.perf_counter() - asked))
    base = float(np.median(times["no dropout"]))
    common = dict(
        device=jax.devices()[0].device_kind, dtype=args.dtype, batch=args.batch, length=length
    )
    rows = []
    for name in WAYS:
        row = dict(way=name, failed=failed.get(name))
        if name in times:
            milliseconds = float(np.median(times[name]))
            row |= dict(
                ms=milliseconds,
                speedup=base / milliseconds,
                largest_difference=float(np.abs(mixed[name] - mixed["no dropout"]).max()),
            )
        rows.append(common | row)
    return rows


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| length | way | ms | × plain without dropout | largest difference |",
        "|---" * 5 + "|",
    ]
    for row in rows:
        cells = [str(row["length"]), row["way"]]
        if row["failed"]:
            cells += [f"not here: {row['failed'][:80]}", "", ""]
        else:
            cells += [f"{row['ms']:.3f}", f"{row['speedup']:.2f}"]
            # With dropout the outputs are meant to differ.
            far = f"{row['largest_difference']:.1e}"
            cells.append("" if row["way"] == "plain" else far)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv=None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=arguments.whole(1), default=256)
    parser.add_argument("--lengths", type=arguments.whole(1), nargs="+", default=[65, 101, 128])
    parser.add_argument("--heads", type=arguments.whole(1), default=12)
    parser.add_argument("--width", type=arguments.whole(1), default=64, help="of a head")
    parser.add_argument("--dtype", default="bfloat16", choices=sorted(DTYPES))
    parser.add_argument("--rounds", type=arguments.whole(1), default=20)
    parser.add_argument("--json", type=arguments.to_write, help="also write all rows to this file")
    args = parser.parse_args(argv)
    rows = [row for length in args.lengths for row in measure(args, length)]
    print(table(rows))
    for row in rows:
        print(json.dumps(row))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
