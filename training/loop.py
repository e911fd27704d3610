"""One loop for every model and task: mesh, data, state, restore; then train, log, evaluate, save.

How a run begins, first that applies: *resume* (WORKDIR has a checkpoint: everything continues,
exactly) > *init* (`config.init` names a checkpoint: its parameters, a new optimizer) > *scratch*
(parameters are a function of the seed).

A resumed run repeats an unbroken one to the last bit on the same mesh: a batch, its masks and
dropout are functions of the seed and of counters that the checkpoint holds. On GPUs this also
needs XLA_FLAGS=--xla_gpu_deterministic_ops=true.
"""

import collections
import contextlib
import json
import time

import jax
import numpy as np

from input_pipeline import remote
from input_pipeline.schema import ConfigError, DataError
from training import (
    checkpoint,
    compile_cache,
    divergence,
    metrics,
    plot,
    runfolder,
    sharding,
    sources,
    starts,
    throughput,
    tracing,
    tracking,
    watchdog,
)
from training import summary as summaries
from training.metrics import say
from training.parts import Parts
from training.signals import StopSignal
from training.state import StateMaker
from training.step import make_train_step

MODES = ("train", "eval", "predict")
# Errors that a user can mend.
USERS = (ConfigError, DataError, checkpoint.CheckpointError, sources.SourceError)
IN_FLIGHT = 2  # batches placed, and steps dispatched, ahead of the one whose loss is looked at


def run(config, workdir, mode: str = "train") -> dict:
    """Trains, evaluates or predicts as `config` says, in the folder `workdir`.

    Returns:
      What WORKDIR/summary.json (train) or evaluation.json (eval) holds, or the metrics (predict).

    Raises:
      ValueError: an unknown mode or option, or a run that cannot be continued as configured.
      divergence.NonFiniteError: training diverged.
    """
    if mode not in MODES:
        raise ConfigError(f"--mode must be one of {MODES}, found {mode!r}")
    from training import setup  # brings the input pipeline and, later, TensorFlow

    workdir = remote.path(workdir)
    remote.require(config.compile_cache, "--config.compile_cache")
    compile_cache.enable(config.compile_cache)
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        parts = setup.build(config, mesh)
        work = dict(train=train, eval=evaluate, predict=write_predictions)[mode]
        with watchdog.watching(config.stall, workdir):
            return work(config, workdir, parts, mesh)


def train(config, workdir: remote.Path, parts: Parts, mesh) -> dict:
    """The train mode; within `jax.set_mesh(mesh)`."""
    sizes = {name: config.streams[name].batch_size for name in parts.example}
    sharding.check_batch_sizes(sizes, mesh, config.optimizer.accumulate)
    maker = StateMaker(parts.task, config, parts.example, mesh)
    identity = runfolder.identity(config, parts.fingerprints)
    store = checkpoint.Checkpoints(workdir, keep=config.checkpoint.keep)
    found = store.restore(
        maker.state, check=lambda meta: runfolder.require_same(meta, identity, workdir), report=say
    )
    state, meta = found or starts.begin(config, workdir, maker, parts)
    start = meta["step"]
    if found:
        say(f"resumed at step {start} from {store.folder / str(start)}")
    runfolder.save_config(workdir, config, say)

    first = jax.process_index() == 0
    writer = metrics.Writer(workdir, after_step=start if found else -1) if first else None
    project = config.wandb if first else ""
    tracker = tracking.Tracker(project, remote.absolute(workdir), runfolder.plain(config))
    run = _Run(config, workdir, parts, store, writer, tracker, identity, meta, mesh, maker)
    try:
        if start >= config.total_steps:
            say(f"step {start} of {config.total_steps} is done already; --mode=eval evaluates")
            return run.finish(state)  # the summary may have been lost to a kill
        if not found:
            run.evaluate(0, state.params)
        state = run.steps(state)
        return run.finish(state)
    finally:
        store.close()
        if writer:
            writer.close()
        tracker.close()


class _Run:
    """The counters of a run in progress."""

    def __init__(self, config, workdir, parts, store, writer, tracker, identity, meta, mesh, maker):
        self.config, self.workdir, self.parts, self.mesh = config, workdir, parts, mesh
        self.store, self.identity = store, identity
        self.writer, self.tracker = writer, tracker
        self.step, self.draws = meta["step"], dict(meta["draws"])
        self.best, self.window = meta["best"], metrics.Window(meta["window"])
        self.began, self.before = time.perf_counter(), meta["elapsed"]
        self.first_step, self.stopped, self.steady = self.step, False, self.began
        self.clock, self.pending = metrics.Clock(), collections.deque()
        self.norms = {}
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
        )
        count = sum(x.size for x in jax.tree.leaves(maker.params))
        say(
            f"{count:,} parameters, {len(maker.optimizer.frozen)} arrays frozen; mesh "
            f"{dict(mesh.shape)} of {mesh.devices.ravel()[0].device_kind}; batch {self.sizes}"
        )

    def steps(self, state):
        """Trains to the last step or the stop signal; returns the state."""
        config, total = self.config, self.config.total_steps
        feed = self._feed()
        window = tracing.Window(config.profile, self.workdir / "profile")
        with StopSignal() as stop, contextlib.closing(window):
            while self.step < total and not self.stopped:
                draws, ids, batch = next(feed)
                window.step(self.step + 1, state)
                state, out = self._step(state, batch, draws)
                self.draws = {name: int(draw) + 1 for name, draw in draws.items()}
                self.pending.append((self.step, draws, ids, out))
                self._look(IN_FLIGHT)

                last = self.step == total
                self.stopped = stop.reached(self.step) and not last
                if self.step % config.log_every == 0 or last:
                    self._log()
                improved = False
                if self.step % config.eval_every == 0 or last:
                    self._look(0)
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
            self._look(0)  # what is under way is no part of the compilation
        asked = time.perf_counter()
        state, out = self.train_step(state, batch, draws)
        self.step += 1
        if not new:
            self.clock.step(self.flops(batch) if self.flops else 0.0)
            return state, out
        self.compiled.add(sizes)
        jax.block_until_ready(out)
        seconds = time.perf_counter() - asked
        say(f"{'first step' if first else 'step with new sizes'} with compilation: {seconds:.1f} s")
        if first:
            self.steady = time.perf_counter()
            self.clock.restart()
        else:
            self.steady += seconds
            self._pause_since(asked)
        return state, out

    def _feed(self):
        """(draws, example ids, placed batch) of each step, placing one batch ahead of its use."""
        host = self.parts.batches(self.draws)
        draws, ready = dict(self.draws), collections.deque()
        while True:
            while len(ready) < IN_FLIGHT:
                asked = time.perf_counter()
                batch = next(host)
                self.clock.wait(time.perf_counter() - asked)
                ids = {name: np.asarray(arrays["example_index"]) for name, arrays in batch.items()}
                counters = {name: np.int32(draw) for name, draw in draws.items()}
                ready.append((counters, ids, sharding.place(batch, self.mesh)))
                watchdog.beat()
                draws = {name: draw + 1 for name, draw in draws.items()}
            yield ready.popleft()

    def _look(self, ahead: int) -> None:
        """Adds up the metrics of all but the last `ahead` steps, waiting for those."""
        while len(self.pending) > ahead:
            step, draws, ids, out = self.pending.popleft()
            out = jax.device_get(out)
            loss, norm = out["pairs"]["loss"][0], out["pairs"]["gradient_norm"][0]
            if not (np.isfinite(loss) and np.isfinite(norm)):
                raise divergence.NonFiniteError(
                    divergence.describe(step, draws, ids, out, self.store.steps())
                )
            self.window.add(out["pairs"])
            self.norms = out["group_norms"]  # of the newest step

    def _log(self) -> None:
        self._look(0)
        line = metrics.train_line(self.window, self.clock, self.sizes, self.peak)
        line["train/learning_rate"] = float(self.rate(self.step))
        done = self.step - self.first_step - 1  # the first one is mostly compilation
        seconds = (time.perf_counter() - self.steady) / done if done else None
        eta = None if seconds is None else seconds * (self.config.total_steps - self.step)
        say(metrics.console_line(self.step, self.config.total_steps, line, eta))
        line |= {f"train/gradient_norm/{g}": float(v) for g, v in self.norms.items()}
        self._write(self.step, line)
        self.window = metrics.Window()
        self.clock.restart()

    def _write(self, step: int, values) -> None:
        if self.writer:
            self.writer.write(step, values)
        self.tracker.write(step, values)

    def evaluate(self, step: int, params) -> bool:
        """Runs every evaluator; returns whether the best metric improved."""
        asked = time.perf_counter()
        values = _evaluations(self.parts, params)
        if not values:
            return False
        say(metrics.evaluation_lines(step, values))
        self._write(step, values)
        self._pause_since(asked)
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
        asked = time.perf_counter()
        self._look(0)  # a state that is not finite is never saved
        if self.writer:
            self.writer.flush()  # a run that resumes from it does not log these lines again
        self.store.save(
            state,
            dict(
                step=self.step,
                draws=self.draws,
                identity=self.identity,
                elapsed=self._elapsed(),
                best=self.best,
                window=self.window.totals,
                facts=self.parts.facts,
                config=runfolder.plain(self.config),
            ),
        )
        self._pause_since(asked)

    def finish(self, state) -> dict:
        """Waits for the last checkpoint; writes the report; says where everything is."""
        params = state.params
        del state  # the optimizer's moments
        self.store.wait()
        if self.writer:
            self.writer.flush()
        if self.stopped:
            say(f"stopped by a signal; step {self.step} is saved: the same command continues")
            return self.summary()
        summary = self.summary()
        if jax.process_index() == 0:
            path = self.workdir / "summary.json"
            path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
            say(summaries.table(summary))
            say(f"done: {path}, {plot.draw(self.workdir)}")
        self._report(params)
        return summary

    def _report(self, params) -> None:
        """Shows a few predictions, where there is a stream that predicts and one to evaluate."""
        config = self.config
        evaluated = any(b.split in ("eval", config.data.eval_split) for b in config.evals.values())
        if not (config.predict.examples and evaluated):
            return
        predictors = self.parts.predictors()
        if not predictors:
            return
        from training import predict

        shown = predict.some(config, predictors, params)
        if jax.process_index() == 0:
            lines = [line for line in metrics.read(self.workdir / metrics.FILE)
                     if any(name.startswith("evals/") for name in line)]  # fmt: skip
            figures = {k: v for k, v in (lines or [{}])[-1].items() if k.startswith("evals/")}
            path = predict.write_report(config, self.workdir, predictors, shown, figures)
            say(f"report: {path}")

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
            devices=f"{self.mesh.devices.size} × {self.mesh.devices.ravel()[0].device_kind}",
            mesh=dict(self.mesh.shape),
            best=self.best,
        )

    def _elapsed(self) -> float:
        return self.before + time.perf_counter() - self.began

    def _pause_since(self, asked: float) -> None:
        self.clock.pause(time.perf_counter() - asked)


def _evaluations(parts: Parts, params, workdir: remote.Path | None = None) -> dict[str, float]:
    """Metrics of every evaluator; `workdir`: where those that write files may."""
    for name, evaluator in parts.evaluators.items():
        if workdir and hasattr(evaluator, "files"):
            evaluator.folder = workdir / evaluator.files / name
    return {
        f"evals/{name}/{metric}": value
        for name, evaluator in parts.evaluators.items()
        for metric, value in evaluator.run(params).items()
    }


def evaluate(config, workdir: remote.Path, parts: Parts, mesh) -> dict:
    """The eval mode: metrics of trained parameters."""
    params, step, source = starts.trained(config, workdir, parts, mesh)
    say(f"evaluating step {step} of {source}")
    values = _evaluations(parts, params, workdir)
    say(metrics.evaluation_lines(step, values))
    result = dict(step=step, source=source) | values
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def write_predictions(config, workdir: remote.Path, parts: Parts, mesh) -> dict:
    """The predict mode: files and report of trained parameters; metrics where labels are.

    Raises:
      ValueError: none of the streams predicts.
    """
    from training import predict

    predictors = parts.predictors()
    if not predictors:
        raise ConfigError(
            "nothing to predict: the first objective of no stream in config.streams has "
            "predictions (pre-training objectives learn from what they hide)"
        )
    params, step, source = starts.trained(config, workdir, parts, mesh)
    say(f"predicting with step {step} of {source}")
    shown = predict.write(config, workdir, predictors, params)
    values = {}
    if any(predict.labelled(predictor.stream) for predictor in predictors.values()):
        values = _evaluations(parts, params, workdir)
        say(metrics.evaluation_lines(step, values))
    if jax.process_index() == 0 and config.predict.examples:
        path = predict.write_report(config, workdir, predictors, shown, values)
        say(f"report: {path}")
    return dict(step=step, source=source) | values
