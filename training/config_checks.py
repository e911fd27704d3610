"""Checks a whole config, field by field and together, before any data is opened.

What a field may be is declared in one place: of objectives, evaluators and streams beside their
code, of all others here. Settings that must fit each other are checked by the code that needs them,
on the model that the config describes with assumed sizes of the data.
"""

import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import vl_models
from checkpoints import depth
from core import checks
from core.checks import each, flag, number, one_of, pair_of, pattern, regex, share, text, whole
from core.errors import ConfigError
from evaluation import evaluators
from input_pipeline import datasets
from input_pipeline.datasets import options as datasets_options
from input_pipeline.streams import limits
from objectives import model as models
from objectives import options
from runtime import tracing
from training import optimizer, schedules, step, stream_schedule, task_checks
from training.planning import assumed, sweep, topology
from training.run import scores
from vl_models import layers

_AXIS = checks.Check(
    "a whole number of at least 1, or -1 for all devices that are left",
    lambda value: whole(1).holds(value) or (whole().holds(value) and value == -1),
)

RUN = {
    "seed": whole(0, 2**32 - 1),
    "total_steps": whole(1),
    "init": text(),
    "init_vocab": text(),
    "init_vision": text(),
    "init_layers": one_of(*depth.CHOICES),
    "dtype": one_of(*sorted(models.DTYPES)),
    "remat": one_of(*sorted(layers.REMAT)),
    "mesh.data": _AXIS,
    "mesh.fsdp": _AXIS,
    "mesh.tensor": _AXIS,
    "shard_state": flag(),
    "reduce_dtype": one_of(*sorted(models.DTYPES)),
    "overfit": whole(0),
    "log_every": whole(1),
    "eval_every": whole(1),
    "checkpoint.every": whole(1),
    "checkpoint.keep": whole(1),
    "eval_intervals": each(pair_of(text(empty=False), whole(1))),
    "checkpoint.best": pattern(
        rf"(evals/[^/]+/.+|{scores.MEAN})?", f"evals/<name>/<metric>, {scores.MEAN}, or empty"
    ),
    "compile_cache": text(),
    "profile": pattern(r"(\d+:\d+)?", "FIRST:END, such as 100:110, or empty"),
    "stall.seconds": number(0),
    "stall.abort": flag(),
    "dry_run.topology": text(),
    "dry_run.mfu": number(above=0, most=1),
    "dry_run.hosts": whole(0),
    "dry_run.assume": flag(),
    "dry_run.sweep": one_of(*sweep.FORMS),
    "dry_run.batches": each(whole(1), ascending=True),
    "dry_run.meshes": each(each(whole(1), lengths=(3,))),
    "wandb": text(),
    "stream_schedule.kind": one_of(*sorted(stream_schedule.KINDS)),
    "stream_schedule.order": each(text(empty=False)),
    "stream_schedule.starts": each(pair_of(text(empty=False), number(0, below=1))),
    "stream_schedule.shares": each(pair_of(text(empty=False), number(0))),
    "stream_schedule.temperature": number(above=0),
    "stream_schedule.stop_and_go.threshold": number(0),
    "stream_schedule.stop_and_go.patience": whole(0),
    "stream_schedule.stop_and_go.cooldown": whole(0),
    "stream_schedule.stop_and_go.resume": number(0, below=1),
    "stream_schedule.stop_and_go.gap": whole(1),
    "stream_schedule.stop_and_go.resets": each(whole(1), ascending=True),
    "stream_schedule.unused_heads": one_of(*step.UNUSED_HEADS),
    "stream_schedule.rate": one_of(*stream_schedule.RATES),
    "predict.examples": whole(0),
}
OPTIMIZER = dict(
    name=one_of(*optimizer.OPTIMIZERS),
    lr=number(0),
    b1=number(0, below=1),
    b2=number(0, below=1),
    eps=number(0),
    weight_decay=number(0),
    correct_bias=flag(),
    no_decay=each(regex()),
    freeze=each(regex()),
    multipliers=each(pair_of(regex(), number(0))),
    clip_norm=number(0),
    skip_nonfinite=whole(0),
    schedule=one_of("triangle", "step"),
    warmup_steps=whole(0),
    milestones=each(whole(1), ascending=True),
    decay=share(),
    accumulate=whole(1),
)
# (where, block, {field: Check}).
_Block = tuple[str, Mapping[str, Any], Mapping[str, checks.Check]]


def check(config) -> None:
    """Checks everything about a config that can be told without its data.

    Args:
      config: of the run.

    Raises:
      ConfigError: the first field that is not what it must be, or fields that do not fit each
        other.
    """
    try:
        _check(config)
    except (KeyError, AttributeError) as error:
        *_, (last, _) = traceback.walk_tb(error.__traceback__)
        if not last.f_globals.get("__name__", "").startswith("ml_collections"):
            raise
        # Any part may ask for a field; only a config that is read from a file can lack one.
        raise ConfigError(
            "the config lacks a setting",
            where="config",
            expected=re.search(r"\w+", str(error))[0],
            found="none",
            fix="give --config=FILE as it was given for the training, or add the setting",
        ) from error


def _check(config) -> None:
    for where, block, wanted in _blocks(config):
        _require_whole(where, block, wanted)
        checks.require(where, block, wanted)
    for name, block in config.objectives.items():
        options.require(name, block)
    _check_run(config)
    _check_sizes(config.model)
    for name, block in config.streams.items():
        named = dict(objectives=each(one_of(*config.objectives)))
        checks.require(f"config.streams.{name}", block, named)  # of those that are off, too
        if block.batch_size:
            limits.check_options(name, block)
            _check_accumulation(name, block, config.optimizer.accumulate)
    model = assumed.model(config)
    task_checks.check(config)
    for name, block in config.evals.items():
        _check_evaluation(name, block, model)


def checks_of(config) -> dict[str, checks.Check]:
    """{dotted path: what it must be} of every field that `check` knows."""
    found = {
        f"{where}.{name}".removeprefix("config."): one
        for where, _, wanted in _blocks(config)
        for name, one in wanted.items()
    }
    for name, block in config.objectives.items():
        wanted = options.checks(options.kind_of(name, block))
        found |= {f"objectives.{name}.{field}": one for field, one in wanted.items()}
    return found


def leaves_of(block: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Dotted paths of the fields of a block that are no blocks themselves."""
    for name, value in block.items():
        if isinstance(value, Mapping) or hasattr(value, "items"):
            yield from leaves_of(value, f"{before}{name}.")
        else:
            yield before + name


def _blocks(config) -> Iterator[_Block]:
    """Every block but those of objectives."""
    yield "config", config, RUN
    yield "config.optimizer", config.optimizer, OPTIMIZER
    checks.require("config.model", config.model, dict(name=one_of(*vl_models.known())))
    yield "config.model", config.model, vl_models.checks(config.model.name)
    yield _data("config.data", config.data)
    for name, block in config.streams.items():
        yield f"config.streams.{name}", block, limits.CHECKS
        yield _data(f"config.streams.{name}.data", block.data)
    for name, block in config.evals.items():
        where = f"config.evals.{name}"
        checks.require(where, block, dict(evaluator=one_of(*evaluators.known())))
        yield where, block, evaluators.COMMON | evaluators.load(block.evaluator).checks


def _data(where: str, block) -> _Block:
    checks.require(where, block, dict(dataset=one_of(*datasets.known())))
    return where, block, datasets_options.checks(block.dataset)


def _require_whole(where: str, block, wanted: Mapping[str, checks.Check]) -> None:
    """Raises ConfigError where a block lacks fields, as one of another kind does."""
    lacking = sorted(set(wanted) - set(leaves_of(block)))
    if lacking:
        kinds = [name for name in ("name", "dataset", "evaluator") if name in wanted]
        raise ConfigError(
            "a block of the config lacks settings",
            where=where,
            expected=", ".join(lacking),
            found=", ".join(f"{kind}={block[kind]!r} without them" for kind in kinds),
            fix="choose the model or the data set where the config is made, such as "
            "--config=FILE:model=...,data=..., which brings its settings; a run of an earlier "
            "version needs --config=FILE, too",
        )


def _check_run(config) -> None:
    if config.init_vision and config.model.get("features") != "pixels":
        raise ConfigError(
            "convolutions are named, and the model has none",
            where="config.init_vision",
            expected="'' with a model that reads stored features",
            found=repr(config.init_vision),
            fix="--config.model.features=pixels (VL-BERT's), or --config.init_vision=",
        )
    schedules.build(config.optimizer, config.total_steps)
    if config.dry_run.topology:
        topology.parse(config.dry_run.topology)
    tracing.window_of(config.profile)
    free = [axis for axis, size in config.mesh.items() if size == -1]
    if len(free) > 1:
        raise ConfigError(
            "two axes of the mesh take the devices that are left",
            where=f"config.mesh.{free[1]}",
            expected="at most one -1",
            found=", ".join(f"{axis}=-1" for axis in free),
            fix=f"--config.mesh.{free[1]}=1",
        )
    datasets_options.require_together("config.data", config.data)
    for name, block in config.streams.items():
        datasets_options.require_together(f"config.streams.{name}.data", block.data)
    task_checks.check_named_evaluations(config)


def _check_sizes(model) -> None:
    """Every width must be cut evenly by the heads of its attention."""
    for name in ("", "image", "connect"):
        block = model.get(name, {}) if name else model
        if "heads" in block and block["hidden"] % block["heads"]:
            where = ".".join(filter(None, ("config.model", name, "heads")))
            raise ConfigError(
                "the heads do not divide the width",
                where=where,
                expected=f"a divisor of hidden, {block['hidden']}",
                found=block["heads"],
                fix=f"--{where}=...",
            )


def _check_accumulation(name: str, block, count: int) -> None:
    if block.batch_size % count:
        raise ConfigError(
            "a batch cannot be cut into microbatches of one size",
            where=f"config.streams.{name}.batch_size",
            expected=f"a multiple of config.optimizer.accumulate, {count}",
            found=block.batch_size,
        )


def _check_evaluation(name: str, block, model: models.MultiTaskModel) -> None:
    if block.stream not in model.streams:
        raise ConfigError(
            "an evaluation reads a stream that there is not",
            where=f"config.evals.{name}.stream",
            expected=f"one of {sorted(model.streams)}, which are on (batch_size > 0)",
            found=repr(block.stream),
            fix=f"--config.evals.{name}.stream=...",
        )
    evaluators.load(block.evaluator).check(block, model)
