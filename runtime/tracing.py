"""A window of steps traced by the JAX profiler, readable by xprof and TensorBoard."""

import pathlib
import re
import tempfile

import jax
from etils import epath

from core.console import say
from core.errors import ConfigError


def window_of(spec: str) -> tuple[int, int]:
    """(first step, step after the last) of "100:110"; two equal numbers of "", for none.

    Raises:
      ConfigError: `spec` is neither empty nor two ascending numbers.
    """
    if not spec:
        return 0, 0
    found = re.fullmatch(r"(\d+):(\d+)", spec)
    if not found or int(found[1]) >= int(found[2]):
        raise ConfigError(
            "config.profile must be FIRST:END with FIRST < END, such as 100:110 for the "
            f"steps 100 to 109, or empty; found {spec!r}"
        )
    return int(found[1]), int(found[2])


class Window:
    """Traces some steps of a run: `step` before each, `close` after the last.

    Every process traces its own devices; with several, each into a folder process_<n> of its own.
    """

    def __init__(self, spec: str, folder):
        """Reads the window; tracing begins at its first step.

        Args:
          spec: "100:110" for the steps 100 to 109, "" for none.
          folder: where the trace goes, of this machine or gs://.

        Raises:
          ConfigError: `spec` is neither empty nor two ascending numbers.
        """
        self._first, self._end = window_of(spec)
        self._folder = epath.Path(folder)
        self._mark = self._local = self._began = self._last = None

    def step(self, step: int, outputs) -> None:
        """Tells that `step` comes next.

        Args:
          step: its number, going up by one.
          outputs: arrays of the step before; waited for where the window begins or ends, so that
            it holds its own steps and these to their end.
        """
        self._unmark()
        inside = self._first <= step < self._end
        if inside != bool(self._local):
            jax.block_until_ready(outputs)
            if inside:
                self._open(step)
            else:
                self.close()
        if inside:
            self._last = step
            self._mark = jax.profiler.StepTraceAnnotation("train", step_num=step)
            self._mark.__enter__()

    def close(self) -> None:
        """Ends the window where it is open, and writes the trace."""
        self._unmark()
        if not self._local:
            return
        jax.profiler.stop_trace()
        folder = self._folder
        if jax.process_count() > 1:
            # Processes of one machine would write the same file.
            folder = folder / f"process_{jax.process_index()}"
        with self._local:
            _copy(pathlib.Path(self._local.name), folder)
        self._local = None
        say(f"profile of steps {self._began} to {self._last}: {self._folder}")

    def _open(self, step: int) -> None:
        # The profiler itself writes to this machine only.
        self._local, self._began = tempfile.TemporaryDirectory(prefix="trace_"), step
        jax.profiler.start_trace(self._local.name)

    def _unmark(self) -> None:
        if self._mark:
            self._mark.__exit__(None, None, None)
            self._mark = None


def _copy(source: pathlib.Path, target: epath.Path) -> None:
    """Copies the files of a folder, subfolders too."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            to = target / str(path.relative_to(source))
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
