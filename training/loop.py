"""One loop for all models and objectives: set up, restore; then train, log, evaluate, save.

How a run begins, first that applies: *resume* (WORKDIR has a checkpoint: everything continues,
exactly) > *init* (`config.init` names a checkpoint: its parameters, a new optimizer) > *scratch*
(parameters are a function of the seed).

A resumed run repeats an unbroken one to the last bit on the same mesh: a batch, its masks and
dropout are functions of the seed and of counters that the checkpoint holds. On GPUs this also
needs XLA_FLAGS=--xla_gpu_deterministic_ops=true.
"""

import contextlib

import jax

from checkpoints import run_config
from core import remote
from core.console import say
from core.errors import ConfigError
from runtime import compile_cache, sharding, signals, watchdog
from training import config_checks, mesh_checks, modes, starts
from training.parts import Parts, Run
from training.run import disk, goodput, logs, run_checkpoints, runfolder
from training.state import StateMaker
from training.trainer import Trainer

MODES = ("train", "eval", "predict", "dry_run")


def run(config, workdir, mode: str = "train", command: run_config.Command | None = None) -> dict:
    """Trains, evaluates, predicts or plans as `config` says, in the folder `workdir`.

    Args:
      config: of the run.
      workdir: its folder; made, and removed again where the run is refused before it begins.
      mode: one of MODES.
      command: what the config was made from, kept beside it.

    Returns:
      What WORKDIR/summary.json (train), evaluation.json (eval) or dry_run.json holds, or the
      metrics (predict).

    Raises:
      UserError: a setting that is wrong, or a run that cannot be continued as configured.
      disk.DiskError: the run folder cannot be written, or its disk is full.
      divergence.NonFiniteError: training diverged.
    """
    ledger = goodput.Ledger()
    if mode not in MODES:
        raise ConfigError(f"--mode must be one of {MODES}, found {mode!r}")
    config_checks.check(config)
    workdir = remote.path(workdir)
    remote.require(config.compile_cache, "--config.compile_cache")
    modes.require(config, workdir, mode)
    with runfolder.left_as_found(workdir):
        return _run(config, workdir, mode, command, ledger)


def _run(
    config,
    workdir: remote.Path,
    mode: str,
    command: run_config.Command | None,
    ledger: goodput.Ledger,
) -> dict:
    """`run` of a config and a mode that are checked."""
    disk.require_writable(workdir)
    # What is compiled for devices that are not here would crowd a user's own programs out.
    if mode != "dry_run" or config.compile_cache != compile_cache.AUTO:
        compile_cache.enable(config.compile_cache)
    if mode == "dry_run":
        from training.planning import dry_run

        with signals.StopSignal(training=False):
            return dry_run.run(config, workdir)
    mesh = sharding.make_mesh(config.mesh)
    mesh_checks.check(config, mesh, mode)
    training = mode == "train"
    with (
        disk.explained(workdir),
        runfolder.alone(workdir) if training else contextlib.nullcontext(),
        jax.set_mesh(mesh),
        signals.StopSignal(training, lambda: disk.state(workdir)) as stop,
    ):
        from training import setup  # brings the input pipeline and, later, TensorFlow

        parts = setup.build(config, mesh)
        with watchdog.watching(config.stall, workdir):
            if training:
                return train(config, workdir, parts, mesh, stop, ledger, command)
            work = dict(eval=modes.evaluate, predict=modes.predict)[mode]
            return work(config, workdir, parts, mesh)


def train(
    config,
    workdir: remote.Path,
    parts: Parts,
    mesh: jax.sharding.Mesh,
    stop: signals.StopSignal,
    ledger: goodput.Ledger,
    command: run_config.Command | None = None,
) -> dict:
    """The train mode; within `jax.set_mesh(mesh)`.

    Args:
      config: of the run.
      workdir: its folder.
      parts: see `setup.build`.
      mesh: to train on.
      stop: entered.
      ledger: in `startup`.
      command: see `run`.
    """
    maker = StateMaker(parts.model, config, parts.example, mesh)
    identity = runfolder.identity(config, parts.fingerprints)
    store = run_checkpoints.Checkpoints(workdir, keep=config.checkpoint.keep)
    with ledger.during("restoring"):
        found = store.restore(
            maker.state,
            check=lambda meta: runfolder.require_same(meta, identity, workdir),
            report=say,
        )
    state, meta = found or starts.begin(config, workdir, maker, parts)
    start = meta["step"]
    ledger.resume(workdir, meta.get("goodput"), done=start >= config.total_steps)
    if found:
        say(f"resumed at step {start} from {store.folder / str(start)}")
        say(ledger.line())
    runfolder.save_config(workdir, config, say, command)

    unevaluated = meta.get("unevaluated", False)
    log = logs.Logs(config, workdir, after_step=start if found else -1, evaluated=not unevaluated)
    trainer = Trainer(
        Run(config, workdir, parts, mesh, stop, ledger),
        maker,
        store,
        log,
        meta | dict(identity=identity),
    )
    try:
        trainer.write_goodput()
        if unevaluated:  # SIGTERM came in between
            trainer.evaluate(state.params)
            store.amend(trainer.meta())
        elif _another_metric(config, meta) and trainer.measure_best(state.params):
            store.amend(trainer.meta())
        if start >= config.total_steps:
            say(f"step {start} of {config.total_steps} is done already; --mode=eval evaluates")
            return trainer.finish(state.params)  # the summary may have been lost to a kill
        if not found:
            trainer.evaluate(state.params)
        return trainer.finish(trainer.train(state).params)
    finally:
        with contextlib.ExitStack() as last:  # each of them, even where one fails
            last.callback(log.close)
            last.callback(store.close)


def _another_metric(config, meta: dict) -> bool:
    """Whether another metric tells the best checkpoint than when a checkpoint was saved."""
    saved = meta.get("config")
    name = config.checkpoint.best
    return bool(saved and name and saved["checkpoint"]["best"] != name)
