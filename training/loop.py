"""One loop for every model and task: mesh, data, state, restore; then train, log, evaluate, save.

How a run begins, first that applies: *resume* (WORKDIR has a checkpoint: everything continues,
exactly) > *init* (`config.init` names a checkpoint: its parameters, a new optimizer) > *scratch*
(parameters are a function of the seed).

A resumed run repeats an unbroken one to the last bit on the same mesh: a batch, its masks and
dropout are functions of the seed and of counters that the checkpoint holds. On GPUs this also
needs XLA_FLAGS=--xla_gpu_deterministic_ops=true.
"""

import contextlib
import json
import time

import jax
import numpy as np

from core import remote
from core.console import say
from core.errors import ConfigError
from evaluation import evaluate
from runtime import compile_cache, sharding, signals, tracing, watchdog
from training import modes, starts
from training.parts import Parts
from training.run import (
    ahead,
    disk,
    divergence,
    goodput,
    logs,
    metrics,
    plot,
    run_checkpoints,
    runfolder,
    throughput,
)
from training.run import summary as summaries
from training.state import StateMaker
from training.step import make_train_step

MODES = ("train", "eval", "predict", "dry_run")


def run(config, workdir, mode: str = "train") -> dict:
    """Trains, evaluates, predicts or plans as `config` says, in the folder `workdir`.

    Returns:
      What WORKDIR/summary.json (train), evaluation.json (eval) or dry_run.json holds, or the
      metrics (predict).

    Raises:
      ValueError: an unknown mode or option, or a run that cannot be continued as configured.
      disk.DiskError: the run folder cannot be written, or its disk is full.
      divergence.NonFiniteError: training diverged.
    """
    ledger = goodput.Ledger()
    if mode not in MODES:
        raise ConfigError(f"--mode must be one of {MODES}, found {mode!r}")
    workdir = remote.path(workdir)
    remote.require(config.compile_cache, "--config.compile_cache")
    disk.require_writable(workdir)
    compile_cache.enable(config.compile_cache)
    if mode == "dry_run":
        from training.planning import dry_run

        return dry_run.run(config, workdir)
    mesh = sharding.make_mesh(config.mesh)
    training = mode == "train"
    with jax.set_mesh(mesh), signals.StopSignal() if training else contextlib.nullcontext() as stop:
        from training import setup  # brings the input pipeline and, later, TensorFlow

        parts = setup.build(config, mesh)
        with watchdog.watching(config.stall, workdir), disk.explained(workdir):
            if training:
                return train(config, workdir, parts, mesh, stop, ledger)
            work = dict(eval=modes.evaluate, predict=modes.predict)[mode]
            return work(config, workdir, parts, mesh)


def train(config, workdir: remote.Path, parts: Parts, mesh, stop, ledger) -> dict:
    """The train mode; within `jax.set_mesh(mesh)`.

    Args:
      stop: an entered `signals.StopSignal`.
      ledger: a `goodput.Ledger`, in `startup`.
    """
    sizes = {name: config.streams[name].batch_size for name in parts.example}
    sharding.check_batch_sizes(sizes, mesh, config.optimizer.accumulate)
    maker = StateMaker(parts.task, config, parts.example, mesh)
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
    runfolder.save_config(workdir, config, say)

    unevaluated = meta.get("unevaluated", False)
    log = logs.Logs(config, workdir, after_step=start if found else -1, evaluated=not unevaluated)
    run = _Run(config, workdir, parts, mesh, maker, store, log, stop, ledger, identity, meta)
    try:
        run.alive()
        if unevaluated:  # SIGTERM came in between
            run.evaluate(start, state.params)
            store.amend(run.meta())
        if start >= config.total_steps:
            say(f"step {start} of {config.total_steps} is done already; --mode=eval evaluates")
            return run.finish(state.params)  # the summary may have been lost to a kill
        if not found:
            run.evaluate(0, state.params)
        return run.finish(run.steps(state).params)
    finally:
        with contextlib.ExitStack() as last:  # each of them, even where one fails
            last.callback(log.close)
            last.callback(store.close)


class _Run:
    """The counters of a run in progress."""

    def __init__(
        self, config, workdir, parts, mesh, maker, store, log, stop, ledger, identity, meta
    ):
        self.config, self.workdir, self.parts, self.mesh = config, workdir, parts, mesh
        self.store, self.log, self.stop, self.ledger = store, log, stop, ledger
        self.identity = identity
        self.step, self.draws = meta["step"], dict(meta["draws"])
        self.best, self.clock = meta["best"], metrics.Clock()
        self.began, self.before = time.perf_counter(), meta["elapsed"]
        self.first_step, self.stopped, self.steady = self.step, False, self.began
        self.unevaluated = False  # whether an evaluation at this step was broken off
        self.skips = divergence.Skips(config.optimizer.skip_nonfinite, meta.get("skips"))
        self.results = ahead.Results(metrics.Window(meta["window"]), self.skips, store.steps)
        self.compiled = set()  # sizes of batches that the step has been compiled for
        self.sizes = {name: config.streams[name].batch_size for name in parts.example}
        self.flops, self.peak = parts.flops(maker.params), throughput.peak(mesh.devices.ravel())
        self.rate = maker.optimizer.rate
        shardings = jax.tree.map(lambda x: x.sharding, maker.state)
        self.train_step = make_train_step(
            parts.task,
            maker.optimizer,
            mesh,
            shardings,
            seed=config.seed,
            accumulate=config.optimizer.accumulate,
            skip_nonfinite=bool(config.optimizer.skip_nonfinite),
        )
        count = sum(x.size for x in jax.tree.leaves(maker.params))
        say(
            f"{count:,} parameters, {len(maker.optimizer.frozen)} arrays frozen; mesh "
            f"{dict(mesh.shape)} of {mesh.devices.ravel()[0].device_kind}; batch {self.sizes}"
        )

    def steps(self, state):
        """Trains to the last step or the stop signal; returns the state."""
        config, total = self.config, self.config.total_steps
        window = tracing.Window(config.profile, self.workdir / "profile")
        host = self.parts.batches(self.draws)
        feed = ahead.placed(host, self.draws, self.mesh, self.clock, self.ledger)
        with contextlib.closing(window):
            while self.step < total and not self.stopped:
                draws, ids, batch = next(feed)
                window.step(self.step + 1, state)
                state, out = self._step(state, batch, draws)
                self.draws = {name: int(draw) + 1 for name, draw in draws.items()}
                self.results.add(self.step, draws, ids, out)

                last = self.step == total
                self.stopped = self.stop.reached() and not last
                if self.step % config.log_every == 0 or last:
                    self._log()
                improved = False
                if self.step % config.eval_every == 0 or last:
                    self.results.wait()
                    improved = self.evaluate(self.step, state.params)
                due = self.step % config.checkpoint.every == 0
                if due or last or improved or self.stopped:
                    self._save(state)
        return state

    def _step(self, state, batch, draws):
        """One step; a batch of new sizes is compiled for, which no figure of speed counts."""
        sizes = tuple(x.shape for x in jax.tree.leaves(batch))
        first, new = not self.compiled, sizes not in self.compiled
        if new:
            self.results.wait()  # what is under way is no part of the compilation
        asked = time.perf_counter()
        if new:
            self.ledger.enter("startup")
        state, out = self.train_step(state, batch, draws)
        self.step += 1
        if not new:
            self.clock.step(self.flops(batch) if self.flops else 0.0)
            return state, out
        self.compiled.add(sizes)
        jax.block_until_ready(out)
        self.ledger.enter("steps")
        seconds = time.perf_counter() - asked
        say(f"{'first step' if first else 'step with new sizes'} with compilation: {seconds:.1f} s")
        if first:
            self.stop.protect()
            self.steady = time.perf_counter()
            self.clock.restart()
        else:
            self.steady += seconds
            self._pause_since(asked)
        return state, out

    def _log(self) -> None:
        """Tells of the steps since the last log line."""
        self.results.wait()
        line = metrics.train_line(self.results.window, self.clock, self.sizes, self.peak)
        # A skipped update does not count in the schedule.
        line["train/learning_rate"] = float(self.rate(self.step - self.skips.total))
        if self.skips.limit:
            line["train/skipped_updates"] = self.skips.total
        done = self.step - self.first_step - 1  # the first one is mostly compilation
        seconds = (time.perf_counter() - self.steady) / done if done else None
        eta = None if seconds is None else seconds * (self.config.total_steps - self.step)
        line |= self.ledger.figures()
        say(metrics.console_line(self.step, self.config.total_steps, line, eta))
        line |= {f"train/gradient_norm/{g}": float(v) for g, v in self.results.norms.items()}
        self.log.write(self.step, line)
        self.alive()
        self.store.check()
        self.results.window = metrics.Window()
        self.clock.restart()

    def evaluate(self, step: int, params) -> bool:
        """Runs every evaluator; returns whether the best metric improved."""
        asked = time.perf_counter()
        try:
            with self.ledger.during("evaluation"):
                values = evaluate.metrics_of(self.parts.evaluators, params)
        except signals.Stopped:
            self.stopped = self.unevaluated = True
            return False
        if not values:
            return False
        self.alive()
        say(evaluate.lines(step, values))
        self.log.write(step, values)
        self._pause_since(asked)
        return self._improved(step, values)

    def _improved(self, step: int, values) -> bool:
        """Whether the metric that `config.checkpoint.best` names did; keeps its value then."""
        name = self.config.checkpoint.best
        if not name:
            return False
        if name not in values:
            raise ConfigError(
                f"config.checkpoint.best must name a metric of config.evals, found {name!r}; "
                f"there are {sorted(values)}"
            )
        value = values[name]
        # There is no checkpoint of step 0 to be the best.
        if not step or not np.isfinite(value) or (self.best and value <= self.best["value"]):
            return False
        self.best = dict(step=step, metric=name, value=value)
        return True

    def _save(self, state) -> None:
        self.results.wait()  # a state that is not finite is never saved
        asked = time.perf_counter()
        with self.ledger.during("checkpoints"):
            self.log.flush()  # a run that resumes from it does not log these lines again
            self.store.save(state, self.meta())
        self.alive()
        self._pause_since(asked)

    def meta(self) -> dict:
        """What a checkpoint says of the run as it is now."""
        return dict(
            step=self.step,
            draws=self.draws,
            identity=self.identity,
            elapsed=self._elapsed(),
            best=self.best,
            window=self.results.window.totals,
            unevaluated=self.unevaluated,
            skips=self.skips.state(),
            goodput=self.ledger.state(),
            facts=self.parts.facts,
            heads={name: spec.to_dict() for name, spec in self.parts.task.head_specs.items()},
            config=runfolder.plain(self.config),
        )

    def alive(self, *, finished: bool = False) -> None:
        """Writes down where the time went so far."""
        if jax.process_index() == 0:
            self.ledger.write(self.workdir, finished=finished)

    def finish(self, params) -> dict:
        """Waits for the last checkpoint; writes the report; says where everything is."""
        with self.ledger.during("checkpoints"):
            self.store.wait()
            self.log.flush()
        self.alive(finished=not self.stopped)
        if self.stopped:
            say(f"stopped by a signal; step {self.step} is saved: the same command continues")
            say(self.ledger.line())
            return self.summary()
        summary = self.summary()
        if jax.process_index() == 0:
            path = self.workdir / "summary.json"
            path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
            say(summaries.table(summary))
            say(self.ledger.line())
            say(f"done: {path}, {plot.draw(self.workdir)}")
        evaluate.write_report(
            self.config,
            self.workdir,
            self.parts.predictors,
            params,
            lambda: metrics.last_evaluation(self.workdir),
        )
        return summary

    def summary(self) -> dict:
        """Final figures; {} but on the first process."""
        if jax.process_index() != 0:
            return {}
        lines = metrics.read(self.workdir / metrics.FILE)
        names = {name.split("/")[1] for name in self.parts.task.loss_scale}
        return summaries.collect(lines, sorted(names), self.parts.priors) | dict(
            step=self.step,
            total_steps=self.config.total_steps,
            elapsed_seconds=round(self._elapsed(), 1),
            goodput=self.ledger.summary(),
            devices=f"{self.mesh.devices.size} × {self.mesh.devices.ravel()[0].device_kind}",
            mesh=dict(self.mesh.shape),
            best=self.best,
        )

    def _elapsed(self) -> float:
        return self.before + time.perf_counter() - self.began

    def _pause_since(self, asked: float) -> None:
        self.clock.pause(time.perf_counter() - asked)
