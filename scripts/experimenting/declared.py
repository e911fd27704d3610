"""What a table of experiments is made of; `scripts/tables/<name>.py` declares one as `TABLE`."""

import collections
import dataclasses
import importlib
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from core import errors, flags

FOLDER = pathlib.Path(__file__).parents[1] / "tables"


class TableError(errors.UserError):
    """A table that cannot be made as it is declared."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
      row, column: where it stands.
      metric: of the evaluation, "<name in config.evals>/<metric>".
      prior: what guessing reaches: a metric's name, or prior(config) → value; "": the metric's own
        prior, where the evaluation tells one.
      share: whether the metric is a share, which is shown in per cent.
    """

    row: str
    column: str
    metric: str
    prior: str | Callable[[ConfigDict], float] = ""
    share: bool = True


@dataclasses.dataclass(frozen=True)
class Trial:
    """A recipe that is run once per seed, and the cells that its evaluation fills.

    Attributes:
      name: of its folder; parts are separated by "/".
      config: as given to --config.
      cells: what is taken from the evaluation.
      changes: {field: value} of the config.
      start: name of the trial whose run of the same seed it starts from; "": from scratch.
      against: name of the trial that it is compared with, cells in order; "": none.
      train: False: the start is evaluated as it is.
      split: of the data set, that is evaluated in the end.
      validates: evaluations while it trains, of `config.evals`; the others follow at the end.
    """

    name: str
    config: str
    cells: tuple[Cell, ...] = ()
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    start: str = ""
    against: str = ""
    train: bool = True
    split: str = "test"
    validates: tuple[str, ...] = ("validation",)

    def config_of(self, seed: int, data_dir: str, init: str = "") -> ConfigDict:
        """The config of a run; its evaluations are those of the end.

        Args:
          seed: of the run.
          data_dir: folder of prepared data.
          init: run that it starts from.

        Raises:
          ConfigError: no such config, argument or field, or a value that is not one.
        """
        config = flags.load(self.config)
        for field in self.changes:
            flags.require_field(config, field)
        try:
            config.update_from_flattened_dict(self.changes)
        except (TypeError, ValueError, KeyError) as error:
            raise errors.ConfigError(str(error), where=f"changes of {self.name!r}") from error
        config.update(seed=seed, init=init)
        config.data.dir, config.data.eval_split = data_dir, self.split
        config.predict.examples = 0  # no report of each run
        return config

    def training_config(self, config: ConfigDict) -> ConfigDict:
        """The same for training: chosen on the validation images, by the evaluations it names."""
        made = flags.load(self.config)
        config = config.copy_and_resolve_references()
        with config.unlocked():
            config.evals = {name: config.evals[name] for name in self.validates}
        config.data.eval_split = made.data.eval_split
        return config


@dataclasses.dataclass(frozen=True)
class Table:
    """Trials, and what their cells are shown as.

    Attributes:
      title: above the table.
      trials: in the order in which they are run.
      corner: what the rows are, above them.
      seeds: runs of each trial, where the command does not say.
      notes: under the table.
    """

    title: str
    trials: tuple[Trial, ...]
    corner: str = ""
    seeds: int = 3
    notes: str = ""

    def trial(self, name: str) -> Trial:
        return next(trial for trial in self.trials if trial.name == name)

    def check(self) -> None:
        """Raises TableError where the declaration does not hold together."""
        names = [trial.name for trial in self.trials]
        _unique(names, "two trials have one name")
        _unique(
            ((cell.row, cell.column) for trial in self.trials for cell in trial.cells),
            "two cells stand in one place",
        )
        for i, trial in enumerate(self.trials):
            if trial.start and trial.start not in names[:i]:
                raise TableError(
                    "a trial starts from one that there is not, or that comes later",
                    where=f"start of {trial.name!r}",
                    expected=f"one of {names[:i]}",
                    found=repr(trial.start),
                )
            if not trial.train and not trial.start:
                raise TableError(
                    "a trial that does not train needs a start", where=f"trial {trial.name!r}"
                )
            if trial.against and trial.against not in names:
                raise TableError(
                    "a trial is compared with one that there is not",
                    where=f"against of {trial.name!r}",
                    expected=f"one of {names}",
                    found=repr(trial.against),
                )
            if trial.against and len(self.trial(trial.against).cells) != len(trial.cells):
                raise TableError(
                    "trials that are compared have cells that do not match",
                    where=f"{trial.name!r} against {trial.against!r}",
                )
            for cell in trial.cells:
                if "/" not in cell.metric:
                    raise TableError(
                        "a metric without its evaluation",
                        where=f"trial {trial.name!r}",
                        expected="<name in config.evals>/<metric>",
                        found=repr(cell.metric),
                    )

    def with_starts(self, wanted: Iterable[str]) -> list[Trial]:
        """The trials of some names and those that they start from, in the table's order."""
        needed, open_ = set(), list(wanted)
        while open_:
            trial = self.trial(open_.pop())
            needed.add(trial.name)
            if trial.start and trial.start not in needed:
                open_.append(trial.start)
        return [trial for trial in self.trials if trial.name in needed]


def _unique(values: Iterable, problem: str) -> None:
    repeated = [value for value, n in collections.Counter(values).items() if n > 1]
    if repeated:
        raise TableError(problem, found=repr(repeated[0]))


def known() -> list[str]:
    """Names of the tables."""
    return sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def load(name: str) -> Table:
    """The table of a name, checked.

    Raises:
      TableError: there is none, or it does not hold together.
    """
    module, _, attribute = name.partition(":")
    if attribute:  # "package.module:NAME", one's own
        table = getattr(importlib.import_module(module), attribute)
    elif name in known():
        table = importlib.import_module(f"scripts.tables.{name}").TABLE
    else:
        raise TableError(
            "no such table", expected=f"one of {', '.join(known())}, or module:NAME", found=name
        )
    table.check()
    return table
