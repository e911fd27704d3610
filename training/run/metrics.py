"""What a run tells: sums over a window of steps, metrics.jsonl, TensorBoard and the console.

metrics.jsonl holds one JSON object a line, with "step" and "time" (seconds since 1970) beside
names such as "train/loss", "train/loss/captions/masked_language", "evals/validation/…". It reads
as one unbroken run: what a killed run wrote past its last checkpoint is removed when it resumes.

On gs://, where nothing can be added to an object, files grow on this machine and are uploaded
whole: in the background at most every UPLOAD_SECONDS, before each checkpoint, and at the end.
"""

import concurrent.futures
import json
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Mapping

from core import remote
from core.console import warn

FILE = "metrics.jsonl"
UPLOAD_SECONDS = 60.0


class Window:
    """(sum, weight) pairs added up since the last log line.

    It is saved with checkpoints, so that a resumed run logs the same windows to the last bit.
    """

    def __init__(self, totals: Mapping | None = None):
        self.totals = {name: list(pair) for name, pair in (totals or {}).items()}

    def add(self, pairs: Mapping) -> None:
        """Adds {name: (sum, weight)}."""
        for name, (value, weight) in pairs.items():
            total = self.totals.setdefault(name, [0.0, 0.0])
            total[0] += float(value)
            total[1] += float(weight)

    def means(self) -> dict[str, float]:
        """{name: sum / weight}; a name without weight is left out."""
        return {name: s / w for name, (s, w) in self.totals.items() if w}


class Clock:
    """Time since the last log line, without pauses (evaluation, checkpoints, compilation)."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        self._start, self._paused, self._waited = time.perf_counter(), 0.0, 0.0
        self.steps, self.examples, self.operations = 0, 0, 0.0

    def step(self, examples: int, operations: float, *, steps: int = 1) -> None:
        """Counts an update.

        Args:
          examples: of its global batch, all streams together.
          operations: of the model, 0 where they are not known.
          steps: 0 where others of the same step follow.
        """
        self.steps += steps
        self.examples += examples
        self.operations += operations

    def pause(self, seconds: float) -> None:
        """Counts `seconds` as no part of training."""
        self._paused += seconds

    def wait(self, seconds: float) -> None:
        """Counts `seconds` as waiting for input."""
        self._waited += seconds

    def seconds(self) -> float:
        return max(time.perf_counter() - self._start - self._paused, 1e-9)

    def waited_share(self) -> float:
        """Share of the time the loop was blocked by the input (0 to 1)."""
        return min(1.0, self._waited / self.seconds())


class Writer:
    """metrics.jsonl, and TensorBoard where tensorboardX is installed."""

    def __init__(self, workdir, *, after_step: int, evaluated: bool = True):
        """Opens the files of a run that continues after `after_step` (-1: from scratch).

        Args:
          evaluated: whether that step's evaluation is done; else it comes again.
        """
        folder = remote.path(workdir)
        self._upload = _Upload(folder) if remote.is_remote(folder) else None
        self.path = (self._upload.folder if self._upload else folder) / FILE
        self._trim(after_step, evaluated)
        self._file = self.path.open("a")
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(
                str(self.path.parent / "tensorboard"), purge_step=after_step + 1
            )

    def _trim(self, after_step: int, evaluated: bool) -> None:
        if not self.path.exists():
            return
        kept = [line for line in read(self.path) if line["step"] <= after_step]
        if not evaluated:
            kept = [
                line for line in kept
                if line["step"] < after_step or not any(k.startswith("evals/") for k in line)
            ]  # fmt: skip
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, self.path)

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        """One line; None, and a value that is no finite number, becomes null."""
        clean = {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}
        line = {"step": step, "time": round(time.time(), 3)} | clean
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        if self._board:
            for name, value in values.items():
                if value is not None:
                    self._board.add_scalar(name, value, step)
        if self._upload:
            self._upload.soon()

    def flush(self) -> None:
        """Returns when all lines are where they are read from."""
        if self._upload:
            if self._board:
                self._board.flush()
            self._upload.now()

    def close(self) -> None:
        self._file.close()
        if self._board:
            self._board.close()
        if self._upload:
            self._upload.close()


class _Upload:
    """Keeps growing files of a run folder on gs:// the same as those of a `folder` here."""

    def __init__(self, place: remote.Path):
        """Begins with the metrics that are there."""
        self._place, self._temporary = place, tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self._temporary.name)
        if (place / FILE).exists():
            (self.folder / FILE).write_bytes((place / FILE).read_bytes())
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._last, self._running, self._sizes = time.monotonic(), None, {}

    def _put(self) -> None:
        for file in sorted(self.folder.rglob("*")):
            name = str(file.relative_to(self.folder))
            if file.is_file() and self._sizes.get(name) != file.stat().st_size:
                data = file.read_bytes()
                (self._place / name).write_bytes(data)
                self._sizes[name] = len(data)

    def soon(self) -> None:
        """Uploads in the background, if the last time is long enough ago."""
        if self._running and not self._running.done():
            return
        if time.monotonic() - self._last >= UPLOAD_SECONDS:
            self._last, self._running = time.monotonic(), self._thread.submit(self._put)

    def now(self) -> None:
        """Uploads and waits for it; raises what went wrong."""
        self._last, self._running = time.monotonic(), self._thread.submit(self._put)
        self._running.result()

    def close(self) -> None:
        """Uploads for the last time; the files here are gone then."""
        with self._temporary, self._thread:
            self.now()


def read(path) -> list[dict]:
    """The lines of a metrics file; a last line that was cut off by a kill is left out.

    So is a damaged line, which is told; those after it count.
    """
    lines, damaged = [], []
    *whole, last = remote.path(path).read_bytes().split(b"\n")
    for number, text in enumerate([*whole, last], 1):
        try:
            line = json.loads(text.decode("utf-8"))
            if not isinstance(line["step"], int):
                raise TypeError(line["step"])
            lines.append(line)
        except (ValueError, TypeError, KeyError, RecursionError):
            if number <= len(whole):
                damaged.append(number)
    if damaged:
        numbers = ", ".join(map(str, damaged[:10])) + ", …" * (len(damaged) > 10)
        warn(f"{path}: damaged lines are left out: {numbers} of {len(whole)}")
    return lines


def untimed(line: Mapping) -> dict:
    """A line without what measures time: the same whether or not the run was interrupted."""
    timed = ("time", "train/examples_per_second", "train/seconds_per_step", "train/input_wait",
             "train/mfu")  # fmt: skip
    return {k: v for k, v in line.items() if k not in timed and not k.startswith("goodput/")}


def train_line(
    window: Window,
    clock: Clock,
    peak: float | None,
    loss_terms: Mapping[str, tuple[int, str]] | None = None,
) -> dict[str, float]:
    """The "train/…" values of a log line.

    Args:
      window: of the steps since the last line.
      clock: of the same steps.
      peak: operations a second of all devices together, or None where it is not known.
      loss_terms: {"<stream>/<objective>": (terms that its loss sums, what each is of)}; their mean
        is "train/<stream>/<objective>_loss_per_<what>".
    """
    line = {}
    for name, (count, term) in (loss_terms or {}).items():
        if (total := window.means().get(f"loss/{name}")) is not None:
            line[f"train/{name}_loss_per_{term}"] = total / count
    for name, value in window.means().items():
        if name.endswith("/filled"):
            line[f"train/{name.removesuffix('filled')}padding"] = 1 - value
        else:
            line[f"train/{name}"] = value
    if clock.steps:
        line["train/examples_per_second"] = clock.examples / clock.seconds()
        line["train/seconds_per_step"] = clock.seconds() / clock.steps
        line["train/input_wait"] = clock.waited_share()
        if clock.operations and peak:
            line["train/mfu"] = clock.operations / clock.seconds() / peak
    return line


def console_line(step: int, total: int, line: Mapping[str, float], eta: float | None) -> str:
    """The same for people, on one line."""
    names = {name.removeprefix("train/"): value for name, value in line.items()}
    losses = {k.removeprefix("loss/"): v for k, v in names.items() if k.startswith("loss/")}
    shares = {k: v for k, v in names.items() if k.endswith("_accuracy")}
    one_stream = len({name.split("/")[0] for name in losses}) == 1

    def short(name):
        return name.split("/", 1)[1] if one_stream else name

    parts = [f"step {step:>{len(str(total))}}/{total}"]
    parts.append(f"loss {names['loss']:.4f}" if "loss" in names else "every update left out")
    for name, value in losses.items():
        means = {k: v for k, v in names.items() if k.startswith(f"{name}_loss_per_")}
        per = [f"{v:.4f} per {k.rpartition('_')[2]}" for k, v in means.items()]
        parts.append(f"{short(name)} {value:.3f}" + f" ({', '.join(per)})" * bool(per))
    parts += [f"{short(name)} {100 * value:.1f}%" for name, value in shares.items()]
    parts.append(f"lr {names['learning_rate']:.2e}")
    if "gradient_norm" in names:
        parts.append(f"|g| {names['gradient_norm']:.3g}")
    if "examples_per_second" in names:
        parts.append(f"{names['examples_per_second']:,.0f} examples/s")
        parts.append(f"input wait {100 * names['input_wait']:.0f}%")
    if "mfu" in names:
        parts.append(f"MFU {100 * names['mfu']:.0f}%")
    if "goodput/share" in names:
        parts.append(f"goodput {100 * names['goodput/share']:.0f}%")
    if eta is not None:
        parts.append(f"ETA {duration(eta)}")
    return " | ".join(parts)


def evaluations(folder) -> list[tuple[int, dict[str, float | None]]]:
    """(step, {"evals/<name>/<metric>": value or None}) of each evaluation of a run, in order."""
    found = []
    for line in read(folder / FILE):
        values = {k: v for k, v in line.items() if k.startswith("evals/")}
        if values:
            found.append((line["step"], values))
    return found


def duration(seconds: float) -> str:
    """3725 → "1:02:05"."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
