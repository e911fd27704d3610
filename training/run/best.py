"""The best value so far of the metric that decides which checkpoint is kept for good."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.console import warn
from core.errors import ConfigError


class BestMetric:
    """`config.checkpoint.best`, higher is better.

    Attributes:
      record: {"step", "metric", "value"} of the best evaluation, or None.
    """

    def __init__(self, name: str, record: dict[str, Any] | None):
        """Starts without a record, or continues a checkpoint's; an empty name: no metric.

        A record of another metric says nothing of this one: it is dropped, which is said.
        """
        if record and name and record["metric"] != name:
            warn(
                f"config.checkpoint.best is now {name}, the best checkpoint so far, of step "
                f"{record['step']}, was told by {record['metric']}: the choice begins anew"
            )
            record = None
        self._name, self.record, self._told = name, record, False

    def improved(
        self, step: int, values: Mapping[str, float | None], *, whole: bool = True
    ) -> bool:
        """Whether an evaluation is the best so far; it is the record then.

        Args:
          step: updates done. There is no checkpoint of step 0 to be the best.
          values: {"evals/<name>/<metric>": value}, None where no label is known: then no checkpoint
            is ever the best, which is said once.
          whole: whether they are of all evaluations; else the metric may be of another one.

        Raises:
          ConfigError: the metric is not among the values.
        """
        if not self._name or not (whole or self._name in values):
            return False
        if self._name not in values:
            raise ConfigError(
                f"config.checkpoint.best must name a metric of config.evals, found {self._name!r}; "
                f"there are {sorted(values)}"
            )
        value = values[self._name]
        if value is None:
            if not self._told:
                self._told = True
                warn(
                    f"{self._name} decides which checkpoint is the best, and no example of its "
                    "split has a label: none will be kept as the best\n"
                    "  fix: evaluate a split with labels, --config.data.eval_split"
                )
            return False
        if not step or not np.isfinite(value):
            return False
        if self.record and value <= self.record["value"]:
            return False
        self.record = dict(step=step, metric=self._name, value=value)
        return True
