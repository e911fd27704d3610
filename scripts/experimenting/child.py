"""A run of a table in a process of its own, or the checks before all of them; the runner starts it.

  python -m scripts.experimenting.child check TABLE DATA_DIR OUT TRIAL...
  python -m scripts.experimenting.child run TABLE DATA_DIR OUT TRIAL SEED INIT

`check` opens what each trial names and writes OUT, {trial: what is wrong}. `run` trains in the
folder OUT, going on where an earlier attempt ended, evaluates, and writes OUT/result.json.
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from core import console, headings
from core.errors import UserError
from core.progress import atomic_file
from evaluation import evaluate
from runtime import sharding
from scripts.experimenting import declared
from training import config_checks, loop

RESULT = "result.json"


def check(trial: declared.Trial, data_dir: str) -> None:
    """Opens everything that a trial names; compiles nothing.

    Raises:
      UserError: a setting, file or metric that there is not.
    """
    from training import setup

    config = trial.config_of(0, data_dir)
    if unknown := [name for name in trial.validates if name not in config.evals]:
        raise declared.TableError(
            "no such evaluation",
            where=f"validates of {trial.name!r}",
            expected=f"some of {sorted(config.evals)}",
            found=unknown[0],
        )
    if trial.train:
        config_checks.check(trial.training_config(config))
    config_checks.check(config)
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        known = evaluate.headings_of(setup.build(config, mesh).evaluators)
    for cell in trial.cells:
        for metric in filter(None, (cell.metric, "" if callable(cell.prior) else cell.prior)):
            _require_metric(metric, cell, known, trial)


def _require_metric(
    metric: str, cell: declared.Cell, known: Mapping[str, headings.Heading], trial: declared.Trial
) -> None:
    where, name = f"cells of {trial.name!r}", metric.split("/")[0]
    heading = known.get(f"evals/{metric}")
    if heading is None:
        of_it = [m.removeprefix("evals/") for m in known if m.startswith(f"evals/{name}/")]
        evaluations = sorted({m.split("/")[1] for m in known})
        raise declared.TableError(
            "no such metric",
            where=where,
            expected=f"one of {', '.join(of_it or evaluations)}",
            found=metric,
        )
    if cell.share != (heading.unit == "share"):
        raise declared.TableError(
            "a metric that is no share is shown in per cent, or a share as it is",
            where=f"{where}, {metric}",
            expected=f"share={heading.unit == 'share'}",
            found=f"share={cell.share}",
        )


def run(
    trial: declared.Trial, seed: int, data_dir: str, folder: pathlib.Path, init: str
) -> dict[str, Any]:
    """Trains where it is due, evaluates; what RESULT holds.

    Returns:
      {"cells": [{"value", "prior"}, ...]}, in the order of the trial's cells; None where no example
      has a label.
    """
    config = trial.config_of(seed, data_dir, init)
    if trial.train:
        loop.run(trial.training_config(config), folder, "train")
        found = loop.run(config, folder, "eval")
    else:
        found = loop.run(config, folder, "eval")
    return dict(cells=[_cell(cell, config, found) for cell in trial.cells])


def _cell(cell: declared.Cell, config, found: Mapping[str, Any]) -> dict[str, Any]:
    name = f"evals/{cell.metric}"
    if callable(cell.prior):
        prior = cell.prior(config)
    else:
        prior = found.get(f"evals/{cell.prior}" if cell.prior else f"{name}{headings.PRIOR}")
    return dict(value=found[name], prior=prior)


@console.command
def main(argv: Sequence[str]) -> None:
    """Checks trials, or runs one."""
    work, name, data_dir, out, *rest = argv
    table = declared.load(name)
    if work == "check":
        problems = {}
        for trial in map(table.trial, rest):
            try:
                check(trial, data_dir)
            except UserError as error:
                problems[trial.name] = str(error)
        pathlib.Path(out).write_text(json.dumps(problems))
        return
    trial, seed, init = rest
    folder = pathlib.Path(out)
    result = run(table.trial(trial), int(seed), data_dir, folder, init)
    with atomic_file(folder / RESULT) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
