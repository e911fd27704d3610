"""Metrics on Weights & Biases, where `config.wandb` asks for it; only then is wandb imported."""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from typing import Any

from core.errors import ConfigError


def require(project: str) -> None:
    """Raises ConfigError where a project is named and wandb is not installed."""
    absent = sys.modules.get("wandb") is None and importlib.util.find_spec("wandb") is None
    if project and absent:
        raise ConfigError(
            f"config.wandb={project!r} needs the wandb package, which is not installed\n"
            "  fix: pip install wandb, or --config.wandb= to go without"
        )


class Tracker:
    """A run on Weights & Biases; without a project it does nothing.

    A restarted run continues the same page. Steps that it repeats are there already, with the same
    values, and Weights & Biases ignores them.
    """

    def __init__(self, project: str, name: str | os.PathLike[str], config: Mapping[str, Any]):
        """Begins or continues the page of a run.

        Args:
          project: "" for none.
          name: absolute path of the run folder; the page's title is its last part, its id a digest.
          config: of the run, JSON values.

        Raises:
          ConfigError: wandb is not installed, or cannot start.
        """
        self._run = None
        if not project:
            return
        require(project)
        import wandb

        name = str(name).rstrip("/")
        try:
            self._run = wandb.init(
                project=project,
                name=name.rpartition("/")[2],
                id=hashlib.sha256(name.encode()).hexdigest()[:16],
                resume="allow",
                config=dict(config),
            )
        except wandb.Error as error:
            raise ConfigError(
                f"config.wandb={project!r}: Weights & Biases cannot start: {error}\n"
                "  fix: wandb login, or WANDB_MODE=offline in the environment, or --config.wandb="
            ) from error

    def write(self, step: int, line: Mapping[str, float | None]) -> None:
        """Adds {metric: value} of a step; lines of the same step are joined."""
        if self._run:
            self._run.log({k: v for k, v in line.items() if v is not None}, step=step)

    def close(self) -> None:
        """Waits until everything is sent."""
        if self._run:
            self._run.finish()
            self._run = None
