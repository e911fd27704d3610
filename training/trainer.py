"""Steps, logging, evaluations and checkpoints of a run, from wherever it begins to its summary."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from core.console import say
from evaluation import evaluate
from runtime import signals, tracing
from training import stream_schedule, used_heads
from training.parts import Run
from training.run import (
    ahead,
    best,
    divergence,
    ending,
    logs,
    metrics,
    run_checkpoints,
    runfolder,
    scores,
    steps,
    throughput,
)
from training.state import StateMaker, TrainState
from training.step import Turn, make_train_step


class Trainer:
    """Runs steps, logging, evaluations and checkpoints.

    Attributes:
      step: updates done.
      draws: {stream: draw of its next batch}.
    """

    def __init__(
        self,
        run: Run,
        maker: StateMaker,
        store: run_checkpoints.Checkpoints,
        log: logs.Logs,
        meta: Mapping[str, Any],
    ):
        """Begins at step 0, or where a checkpoint left off.

        Args:
          run: what is trained.
          maker: of its state.
          store: its checkpoints.
          log: its metrics.
          meta: of the checkpoint that is continued, or of a new run; with the run's `identity`.
        """
        config, parts = run.config, run.parts
        self._run, self._store, self._log = run, store, log
        self.step, self.draws = meta["step"], dict(meta["draws"])
        self._identity = meta["identity"]
        self._began, self._elapsed_before = time.perf_counter(), meta["elapsed"]
        self._stopped = self._unevaluated = False  # the latter: an evaluation was broken off here
        self._best = best.BestMetric(config.checkpoint.best, meta["best"])
        self._schedule = stream_schedule.of_config(
            config, parts.passes, meta.get("stream_schedule")
        )
        self._scores = scores.Scores(scores.of_config(config), meta.get("scores"))
        self._skips = divergence.Skips(config.optimizer.skip_nonfinite, meta.get("skips"))
        window = metrics.Window(meta["window"])
        self._results = ahead.Results(window, self._skips, store.steps)
        self._clock = metrics.Clock()
        self._peak = throughput.peak(run.mesh.devices.ravel())
        self._learning_rate = maker.optimizer.rate
        sizes = {name: config.streams[name].batch_size for name in parts.example}
        self._run_step = steps.StepRunner(
            make_train_step(
                parts.model,
                maker.optimizer,
                run.mesh,
                jax.tree.map(lambda x: x.sharding, maker.state),
                seed=config.seed,
                accumulate=config.optimizer.accumulate,
                reduce_dtype=config.reduce_dtype,
                skip_nonfinite=bool(config.optimizer.skip_nonfinite),
                rates={name: config.streams[name].get("rate", 1.0) for name in parts.example},
                unused_heads=config.stream_schedule.unused_heads,
            ),
            parts.flops(maker.params),
            sizes,
            self._clock,
            run.ledger,
        )
        count = sum(x.size for x in jax.tree.leaves(maker.params))
        say(
            f"{count:,} parameters, {len(maker.optimizer.frozen)} arrays frozen; mesh "
            f"{dict(run.mesh.shape)} of {run.mesh.devices.ravel()[0].device_kind}; batch {sizes}"
        )
        if self._schedule.separate:
            say(used_heads.costs(maker.state))

    def train(self, state: TrainState) -> TrainState:
        """Trains to the last step or the stop signal."""
        config, total = self._run.config, self._run.config.total_steps
        window = tracing.Window(config.profile, self._run.workdir / "profile")
        batches = self._batches()
        with contextlib.closing(window):
            while self.step < total and not self._stopped:
                state = self._step(state, batches, window)
                last = self.step == total
                self._stopped = self._run.stop.reached() and not last
                if self.step % config.log_every == 0 or last:
                    self._write_log()
                improved = False
                if due := self._due(last):
                    self._results.wait()
                    stopped = self._schedule.stopped(self.step)
                    improved = self.evaluate(state.params, due)
                    if self._schedule.stopped(self.step) != stopped:
                        # Prefetched batches may be of streams that no longer take part.
                        batches = self._batches()
                regular = self.step % config.checkpoint.every == 0
                if regular or last or improved or self._stopped:
                    self._save(state)
        return state

    def _batches(self) -> Iterator[tuple[dict, dict, dict]]:
        """(draws, example ids, placed batch) of each update from here on."""
        plan = stream_schedule.plan(self._schedule, self.step, self.draws)
        run = self._run
        return ahead.placed(run.parts.batches(plan), run.mesh, self._clock, run.ledger)

    def _step(
        self, state: TrainState, batches: Iterator[tuple[dict, dict, dict]], window: tracing.Window
    ) -> TrainState:
        """One step: an update of all its streams, or one of each."""
        count = len(stream_schedule.turns(self._schedule, self.step))
        for number in range(count):
            update = next(batches)
            if not number:
                window.step(self.step + 1, state)
            state = self._update(state, *update, number, count)
        self.step += 1
        return state

    def _update(
        self, state: TrainState, draws: dict, ids: dict, batch: dict, number: int, count: int
    ) -> TrainState:
        """One of `count` updates of a step; its results are looked at later."""
        if self._run_step.is_new(batch):
            self._results.wait()  # what is under way is no part of the compilation
        first = not self._run_step.compiled
        joining = [name for name, draw in draws.items() if self.step and int(draw) == 0]
        turn = None
        if self._schedule.separate:
            turn = self._turn(number)
        elif joining:
            say(f"step {self.step}: losses of {', '.join(joining)} are added from here on")
        state, out = self._run_step(state, batch, draws, turn, number == count - 1)
        if first:
            self._run.stop.protect()
        self.draws |= {name: int(draw) + 1 for name, draw in draws.items()}
        self._results.add(self.step + 1, draws, ids, out)
        return state

    def _turn(self, number: int) -> Turn:
        """The place of an update of one stream in this step."""
        late = self._run.config.stream_schedule.rate == stream_schedule.RELEASED and not number
        return Turn(np.int32(self.step), np.int32(self.step + (not late)))

    def _write_log(self) -> None:
        """Logs metrics since the last log line."""
        self._results.wait()
        total, skips = self._run.config.total_steps, self._skips
        line = metrics.train_line(
            self._results.window, self._clock, self._peak, self._run.parts.loss_terms
        )
        # A skipped update does not count in the schedule, unless it is one of several of a step.
        counted = self.step - skips.total * (not self._schedule.separate)
        line["train/learning_rate"] = float(self._learning_rate(counted))
        if skips.limit:
            line["train/skipped_updates"] = skips.total
        line |= self._run.ledger.figures()
        eta = self._run_step.seconds_left(total - self.step)
        say(metrics.console_line(self.step, total, line, eta))
        norms = self._results.norms.items()
        line |= {f"train/gradient_norm/{group}": float(norm) for group, norm in norms}
        self._log.write(self.step, line)
        self.write_goodput()
        self._store.check()
        self._results.window = metrics.Window()
        self._clock.restart()

    def _due(self, last: bool) -> list[str]:
        """Names of the evaluations that follow this step."""
        config = self._run.config
        intervals = dict(config.eval_intervals)
        return [
            name
            for name in self._run.parts.evaluators
            if last or self.step % intervals.get(name, config.eval_every) == 0
        ]

    def evaluate(self, params, names: Sequence[str] | None = None) -> bool:
        """Runs evaluators; returns whether the best metric improved.

        Args:
          params: of the model.
          names: of the evaluators; None: those due after this step, at its start and its end all.
        """
        if names is None:
            names = self._due(not self.step or self.step == self._run.config.total_steps)
        evaluators = {name: self._run.parts.evaluators[name] for name in names}
        began, ledger = time.perf_counter(), self._run.ledger
        try:
            with ledger.during("evaluation"):
                values = evaluate.metrics_of(evaluators, params)
        except signals.Stopped:
            self._stopped = self._unevaluated = True
            return False
        if not values:
            return False
        self.write_goodput()
        say(evaluate.lines(self.step, values, evaluators))
        whole = len(evaluators) == len(self._run.parts.evaluators)
        scored = self._scores.take(values, whole=whole)
        self._log.write(self.step, values | scored | self._heard(values))
        self._clock.pause(time.perf_counter() - began)
        return self._best.improved(self.step, values | scored, whole=whole)

    def _heard(self, values: Mapping[str, float | None]) -> dict[str, float]:
        """Tells the schedule of an evaluation, and the log which tasks rest from here on."""
        before = self._schedule.stopped(self.step)
        self._schedule.evaluated(self.step, values)
        after = self._schedule.stopped(self.step)
        for verb, names in (("rests", after - before), ("goes on", before - after)):
            for name in sorted(names):
                say(f"step {self.step}: {name} {verb} from here on")
        tasks = self._scores.tasks
        updates = {f"tasks/{name}/{scores.UPDATES}": self.draws[name] for name in tasks}
        if not self._schedule.stops:
            return updates
        return updates | {f"tasks/{name}/{scores.STOPPED}": float(name in after) for name in tasks}

    def measure_best(self, params) -> bool:
        """Evaluates for another metric that tells the best checkpoint now; returns whether it did.

        Nothing is logged: the evaluation of this step stands in the logs already, or is none.

        Raises:
          ConfigError: no evaluator has this metric.
        """
        try:
            with self._run.ledger.during("evaluation"):
                values = evaluate.metrics_of(self._run.parts.evaluators, params)
        except signals.Stopped:
            self._stopped = True
            return False
        scored = self._scores.take(values, whole=True)
        self._best.improved(self.step, values | scored, whole=True)
        return True

    def _save(self, state: TrainState) -> None:
        self._results.wait()  # a state that is not finite is never saved
        began = time.perf_counter()
        with self._run.ledger.during("checkpoints"):
            self._log.flush()  # a run that resumes from it does not log these lines again
            self._store.save(state, self.meta())
        self.write_goodput()
        self._clock.pause(time.perf_counter() - began)

    def meta(self) -> dict[str, Any]:
        """What a checkpoint says of the run as it is now: JSON."""
        parts = self._run.parts
        return dict(
            step=self.step,
            draws=self.draws,
            stream_schedule=self._schedule.state(),
            scores=self._scores.state(),
            identity=self._identity,
            elapsed=self._elapsed(),
            best=self._best.record,
            window=self._results.window.totals,
            unevaluated=self._unevaluated,
            skips=self._skips.state(),
            goodput=self._run.ledger.state(),
            facts=parts.data_metadata,
            heads={name: spec.to_dict() for name, spec in parts.model.head_specs.items()},
            config=runfolder.plain(self._run.config),
        )

    def write_goodput(self, *, finished: bool = False) -> None:
        """Writes the goodput breakdown so far."""
        if jax.process_index() == 0:
            self._run.ledger.write(self._run.workdir, finished=finished)

    def finish(self, params) -> dict[str, Any]:
        """Waits for the last checkpoint; writes the report; prints the output paths."""
        run = self._run
        with run.ledger.during("checkpoints"):
            self._store.wait()
            self._log.flush()
        self.write_goodput(finished=not self._stopped)
        end = ending.Ending(run, self.step, self._elapsed(), self._best.record)
        summary = end.summary()
        if self._stopped:
            say(f"stopped by a signal; step {self.step} is saved: the same command continues")
            say(run.ledger.line())
            return summary
        end.show(summary)
        evaluate.write_report(
            run.config,
            run.workdir,
            run.parts.predictors,
            params,
            end.measured,
        )
        return summary

    def _elapsed(self) -> float:
        """Seconds of the run so far, over all its attempts."""
        return self._elapsed_before + time.perf_counter() - self._began
