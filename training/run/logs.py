"""All logs of a run's metrics: metrics.jsonl, TensorBoard and Weights & Biases."""

import contextlib
from collections.abc import Mapping

import jax
from ml_collections import ConfigDict

from core import remote
from training.run import metrics, runfolder, tracking


class Logs:
    """Writes to all logs; does nothing on other processes than the first."""

    def __init__(
        self, config: ConfigDict, workdir: remote.Path, *, after_step: int, evaluated: bool = True
    ):
        """Opens the logs of a run; arguments as `metrics.Writer` has them.

        Raises:
          ConfigError: `config.wandb` asks for Weights & Biases, which cannot start.
        """
        first = jax.process_index() == 0
        self._writer = None
        if first:
            self._writer = metrics.Writer(workdir, after_step=after_step, evaluated=evaluated)
        self._tracker = tracking.Tracker(
            config.wandb if first else "", remote.absolute(workdir), runfolder.plain(config)
        )

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        """Adds {metric: value} of a step."""
        if self._writer:
            self._writer.write(step, values)
        self._tracker.write(step, values)

    def flush(self) -> None:
        """Waits until all lines of metrics.jsonl are in the run folder."""
        if self._writer:
            self._writer.flush()

    def close(self) -> None:
        """Closes every log, even where one fails."""
        with contextlib.ExitStack() as last:
            last.callback(self._tracker.close)
            if self._writer:
                last.callback(self._writer.close)
