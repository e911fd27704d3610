"""What one wants to know of an accelerator, in order of worth, within some minutes.

  python benchmarks/accelerator.py --minutes=7 --out=accelerator      # one GPU
  python benchmarks/accelerator.py --list                             # its cells
  python benchmarks/accelerator.py --only="step*" --minutes=3

A cell is one of the benchmarks beside this file with its arguments, in a process of its own: the
golden files on this device, train steps of both models at the sizes of the papers in bfloat16, as
batches of full rows and in a bucket, a PyTorch peer of the same work (compiled, fused attention),
ways of attention, what rematerialising saves, ranking, where a step's time goes, extraction of
regions. Cells run one after the other. What is done
is printed and written to OUT/results.json and OUT/table.md at once; a cell that does not fit the
device's memory, dies, or does not fit the time says so, and the others go on. A second run with the
same OUT goes on with what is not there yet. The compiled programs are kept in OUT/compiled.

Needed are jax, flax, optax, ml_collections, jaxtyping and xxhash (ranking: tokenizers); no
TensorFlow. For a machine without a network:

  pip download --no-deps --only-binary=:all: --python-version=3.12 -d wheels \
    ml_collections jaxtyping wadler_lindig xxhash tokenizers

take the folder along, and there `pip install --no-deps wheels/*.whl`.

MFU is operations of the model (training/run/throughput.py) over time · the device's peak by its
data sheet, and beside it over the best rate of a matrix product in the same run.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from core import arguments
from core.console import say
from core.progress import atomic_file

FOLDER = pathlib.Path(__file__).resolve().parent
PACKAGES = ("jax", "flax", "optax", "ml_collections", "jaxtyping", "xxhash")
ENOUGH = 20  # seconds left below which nothing is started
BUCKET = "24x25x36"  # of text, regions, both: about half of the examples fit
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A benchmark with its arguments.

    Attributes:
      name: in the results.
      program: file beside this one.
      options: of its command line; --json is added.
      needs: packages without which it is not run.
    """

    name: str
    program: str
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def command(self, rows: pathlib.Path) -> list[str]:
        return [sys.executable, str(FOLDER / self.program), *self.options, f"--json={rows}"]


def _step(model: str, size: str, batch: int, *more: str, needs: tuple[str, ...] = ()) -> Cell:
    name = f"step {model} {size} {batch}" + "".join(f" {x.strip('-')}" for x in more)
    options = (
        f"--models={model}", f"--sizes={size}", f"--batch={batch}", "--dtype=bfloat16",
        f"--buckets={BUCKET}", "--rounds=4", "--steps=5", *more,
    )  # fmt: skip
    return Cell(name, "train_step.py", options, needs)


def _peer(model: str, size: str, batch: int) -> Cell:
    return _step(model, size, batch, "--peer", needs=("torch", "transformers"))


CELLS = (
    Cell("correctness", "correctness.py"),
    _step("vlbert", "base", 256),
    _step("vilbert", "base", 256),
    _peer("vlbert", "base", 256),
    Cell("attention", "attention.py"),
    _step("vlbert", "large", 128),
    _step("vlbert", "base", 512),
    _step("vlbert", "base", 64),
    _peer("vilbert", "base", 256),
    _step("vlbert", "large", 256, "--remat=full"),
    Cell("ranking vilbert base", "ranking.py",
         ("--model=vilbert", "--size=base", "--dtype=bfloat16", "--texts=64", "--images=128"),
         ("tokenizers",)),
    Cell("parts vlbert base 256", "step_parts.py",
         ("--model=vlbert", "--size=base", "--batch=256", "--dtype=bfloat16")),
    Cell("extraction", "extraction.py", ("--dtype=bfloat16", "--batch=8")),
    _step("vilbert", "base", 512),
    _step("vlbert", "base", 128),
    _step("vilbert", "base", 64),
    _step("vlbert", "large", 64),
)  # fmt: skip

# The same at sizes for a CPU: whether it all runs, not how fast.
TOY = (
    Cell("correctness", "correctness.py",
         ("--files", "vilbert_pretrain_kl.npz", "--precisions=float32 exact,bfloat16")),
    Cell("step vlbert mini 8", "train_step.py",
         ("--models=vlbert", "--sizes=mini", "--batch=8", "--buckets=", "--rounds=1", "--steps=1",
          "--matmul=256")),
    Cell("attention", "attention.py",
         ("--batch=2", "--lengths", "8", "--heads=2", "--width=8", "--dtype=float32",
          "--rounds=1")),
)  # fmt: skip


def run(cell: Cell, out: pathlib.Path, seconds: float) -> dict:
    """The result of a cell: {"name", "command", "state", "seconds", "rows"}.

    Args:
      cell: to run.
      out: folder of its rows and log.
      seconds: after which it is ended.
    """
    stem = cell.name.replace(" ", "_").replace("=", "-").replace("/", "-")
    rows, log = out / f"{stem}.json", out / f"{stem}.log"
    rows.unlink(missing_ok=True)
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(out / "compiled")}
    began, timed_out = time.monotonic(), False
    with log.open("w") as file:
        process = subprocess.Popen(
            cell.command(rows),
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return dict(
        name=cell.name,
        command=" ".join(cell.command(rows)[1:]),
        state=_state(process.returncode, timed_out, log.read_text(errors="replace")),
        seconds=round(time.monotonic() - began, 1),
        rows=json.loads(rows.read_text()) if rows.is_file() else [],
    )


def _state(code: int, timed_out: bool, printed: str) -> str:
    if timed_out:
        return "cut off: no time left"
    if not code:
        return "done"
    if OUT_OF_MEMORY in printed:
        return "does not fit the device's memory"
    return f"failed: {(printed.strip().splitlines() or ['exit status ' + str(code)])[-1][:160]}"


def table(results: Sequence[dict], waiting: Sequence[tuple[Cell, str]]) -> str:
    """All results as Markdown, and what was not run with the reason."""
    steps = [(r["name"], row) for r in results for row in r["rows"] if "mfu" in row]
    lines = []
    if steps:
        head = (
            "train step", "rows", "ms p50", "p95", "examples/s", "real tokens/s", "MFU",
            "of the product's rate", "peak GB", "compile s",
        )  # fmt: skip
        lines += ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
        for name, row in steps:
            memory = row["device_peak_gb"] or row["program_gb"]
            cells = (
                f"{name}, {row['side']}",
                row["kind"],
                f"{row['step_ms_p50']:,.1f}",
                f"{row['step_ms_p95']:,.1f}",
                f"{row['examples_per_second']:,.0f}",
                f"{row['real_tokens_per_second']:,.0f}",
                f"{row['mfu']:.1%}",
                f"{row['teraflops_per_second'] / row['product_teraflops']:.1%}",
                f"{memory:.1f}" if memory else "",
                f"{row['compile_seconds']:.0f}" if row["compile_seconds"] else "",
            )
            lines.append("| " + " | ".join(cells) + " |")
        first = steps[0][1]
        lines += [
            "",
            f"{first['device']}; peak {first['peak_teraflops']:.4g} TFLOP/s "
            f"({first['peak_from']}), matrix product {first['product_teraflops']:.4g} TFLOP/s.",
        ]
    for result in results:
        if result["state"] == "done" and any("mfu" in row for row in result["rows"]):
            continue
        lines += ["", f"**{result['name']}**: {result['state']}, {result['seconds']:.0f} s"]
        lines += [f"- {_words(row)}" for row in result["rows"] if "mfu" not in row]
    lines += [f"\n**{cell.name}**: not run, {why}" for cell, why in waiting]
    return "\n".join(lines).strip() + "\n"


def _write_table(out: pathlib.Path, results: Sequence[dict], waiting: Sequence) -> str:
    """Writes OUT/table.md; its text."""
    text = table(results, waiting)
    with atomic_file(out / "table.md") as temporary:
        temporary.write_text(text)
    return text


def _words(row: dict) -> str:
    """A row of figures in a line."""
    shown = {key: value for key, value in row.items() if value not in (None, "")}
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in shown.items()
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=arguments.number(0.1), default=7.0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("accelerator"))
    parser.add_argument("--only", default="*", help="patterns of cells, separated by commas")
    parser.add_argument("--list", action="store_true", help="print the cells and end")
    parser.add_argument("--toy", action="store_true", help="sizes for a CPU: does it run?")
    args = parser.parse_args(argv)
    deadline = time.monotonic() + 60 * args.minutes
    patterns = args.only.split(",")
    cells = [
        cell
        for cell in (TOY if args.toy else CELLS)
        if any(fnmatch.fnmatchcase(cell.name, pattern) for pattern in patterns)
    ]
    if not cells:
        parser.error(f"--only: no cell is named {args.only!r}; --list names them")
    if args.list:
        for cell in cells:
            say(f"{cell.name}: {cell.program} {' '.join(cell.options)}")
        return 0
    arguments.require_packages(parser, "this program", *PACKAGES)
    args.out.mkdir(parents=True, exist_ok=True)
    out = args.out.resolve()
    path = out / "results.json"
    results = json.loads(path.read_text()) if path.is_file() else []
    results = [r for r in results if r["state"] == "done"]  # the others are tried again
    done = {result["name"] for result in results}
    waiting: list[tuple[Cell, str]] = []
    for cell in cells:
        left = deadline - time.monotonic()
        if cell.name in done:
            continue
        if missing := arguments.missing_packages(*cell.needs):
            waiting.append((cell, f"needs {' and '.join(missing)}"))
            continue
        if left < ENOUGH:
            waiting.append((cell, "no time left"))
            continue
        say(f"{cell.name}: {left:.0f} s left")
        results.append(run(cell, out, left))
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n")
        print(table(results[-1:], ()), flush=True)
        _write_table(out, results, waiting)
    print(f"\n{_write_table(out, results, waiting)}\n{path}")
    return 0 if all(result["state"] == "done" for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
