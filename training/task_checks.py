"""Checks what a config says of its streams as tasks: schedule, scores, rates, evaluations."""

from core.errors import ConfigError
from training import stream_schedule
from training.run import scores


def check(config) -> None:
    """Raises ConfigError where schedule and streams do not fit each other."""
    _check_schedule(config)
    for name, block in config.streams.items():
        if block.batch_size:
            _check_task(config, name, block)


def check_named_evaluations(config) -> None:
    """Raises ConfigError where an evaluation is named that there is not."""
    where = "config.eval_intervals"
    named = [(where, name, f'--{where}="()"') for name, _ in config.eval_intervals]
    best = config.checkpoint.best
    if best and best != scores.MEAN:
        named.append(("config.checkpoint.best", best.split("/")[1], "--config.checkpoint.best="))
    for name, block in config.streams.items():
        if block.score:
            field = f"config.streams.{name}.score"
            named.append((field, block.score.split("/")[1], f"--{field}="))
    for where, name, fix in named:
        if name not in config.evals:
            raise ConfigError(
                "a setting names an evaluation that there is not",
                where=where,
                expected=f"one of {sorted(config.evals)}",
                found=repr(name),
                fix=fix,
            )
    if best == scores.MEAN and not scores.of_config(config):
        raise ConfigError(
            "the best checkpoint is told by the streams' scores, and no stream has one",
            where="config.checkpoint.best",
            expected="config.streams.<name>.score of a stream that is on",
            found=repr(best),
            fix="--config.checkpoint.best=",
        )


def _check_schedule(config) -> None:
    schedule = config.stream_schedule
    named = dict(
        order=schedule.order,
        starts=[name for name, _ in schedule.starts],
        shares=[name for name, _ in schedule.shares],
    )
    for field, names in named.items():
        if unknown := [name for name in names if name not in config.streams]:
            raise ConfigError(
                "the schedule names a stream that there is not",
                where=f"config.stream_schedule.{field}",
                expected=f"names of {sorted(config.streams)}",
                found=repr(unknown[0]),
            )
    stream_schedule.of_config(config)


def _check_task(config, name: str, block) -> None:
    """Raises ConfigError where what a stream says as a task of several does not fit the rest."""
    where, tasks = f"config.streams.{name}", config.model.get("tasks", 0)
    if block.rate != 1 and not stream_schedule.is_separate(config):
        raise ConfigError(
            "a stream without updates of its own has no learning rate of its own",
            where=f"{where}.rate",
            expected=f"1.0 with config.stream_schedule.kind={config.stream_schedule.kind!r}",
            found=block.rate,
            fix="--config.stream_schedule.kind=round_robin, or the weight of its objectives",
        )
    if block.task and block.task >= tasks:
        raise ConfigError(
            "a stream has a row of the task table that there is not",
            where=f"{where}.task",
            expected=f"less than config.model.tasks, {tasks}" if tasks else "0: there is no table",
            found=block.task,
            fix=f"--config.model.tasks={block.task + 1} (of ViLBERT), or --{where}.task=0",
        )
    if block.score and config.evals[block.score.split("/")[1]].stream != name:
        raise ConfigError(
            "the score of a stream is of another stream",
            where=f"{where}.score",
            expected=f"a metric of an evaluation of stream {name!r}",
            found=f"{block.score!r}, of {config.evals[block.score.split('/')[1]].stream!r}",
        )
