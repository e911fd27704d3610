"""The checkpoints of a run: saved in the background, restored from the newest that is sound.

Kept are the newest n and the best one. A checkpoint is written beside its place and renamed when
complete, so a run killed while saving leaves the previous one untouched. One that was damaged
since is moved aside, and the one before is taken. Where the storage fails, it is asked again, and
then the run ends with everything in place.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from checkpoints import checkpoint, digests
from checkpoints import damage as damage_of
from checkpoints.checkpoint import ITEMS, CheckpointError
from checkpoints.damage import DamageError, StorageError
from core.console import say, warn
from core.errors import ConfigError, UserError
from runtime import paths
from training.state import TrainState

_NOTE = "_CHECKPOINT_METADATA"  # in the folder of a step: when it was begun and ended
WAITS = (1.0, 4.0, 16.0)  # seconds before the storage is asked again


@dataclasses.dataclass
class _NewestAndBest(checkpoint_managers.PreservationPolicy):
    """Keeps the newest `count` and the best; `best` changes while the run goes on."""

    count: int
    best: int | None = None

    def should_preserve(self, checkpoints, *, context):
        del context
        newest = len(checkpoints) - self.count
        return [i >= newest or c.step == self.best for i, c in enumerate(checkpoints)]


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, workdir, *, keep: int):
        """Opens WORKDIR/checkpoints, and clears what an interrupted save left behind.

        Args:
          keep: how many of the newest to keep, beside the best.
        """
        if keep < 1:
            raise ConfigError(f"config.checkpoint.keep must be at least 1, found {keep}")
        self.folder = checkpoint.absolute(workdir) / checkpoint.FOLDER
        self._policy = _NewestAndBest(keep)
        self._manager = self._opened()
        if self.steps():
            found, _ = _attempt(checkpoint.read_meta, self.folder / str(self.steps()[-1]))
            self._policy.best = _best_step(found[0]) if found else None

    def _opened(self) -> ocp.CheckpointManager:
        """Orbax' manager, which fails where the times that one of its notes tells are damaged.

        Nothing else is in these notes that anybody reads, so they are put aside.
        """
        try:
            return checkpoint.manager(self.folder, self._policy)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            notes = sorted(self.folder.glob(f"*/{_NOTE}"))
            if isinstance(error, UserError) or damage_of.is_known(error) or not notes:
                raise
            if jax.process_count() > 1:  # the others may have it open
                raise CheckpointError(
                    "what a checkpoint says of its times is damaged",
                    where=f"{self.folder}/*/{_NOTE}",
                    found=str(error),
                    fix="remove these files: nothing else is in them",
                ) from error
            warn(f"damaged notes are put aside, {self.folder}/*/{_NOTE}: {error}")
            for note in notes:
                note.rename(note.with_name(f"{_NOTE}.damaged"))
            return checkpoint.manager(self.folder, self._policy)

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, meta: dict) -> None:
        """Starts writing; returns once the state is copied, so that its buffers may be reused.

        Args:
          state: at the end of a step.
          meta: JSON; "step" names the checkpoint, "best" = {"step", …} or None is kept for good.
        """
        self._policy.best = _best_step(meta)
        found = {name: digests.of(getattr(state, name)) for name in ITEMS}
        self._manager.save(
            meta["step"],
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                opt_state=ocp.args.StandardSave(state.opt_state),
                # A copy: it is written in the background, while the loop adds to its window.
                meta=ocp.args.JsonSave(digests.seal(meta, found)),
            ),
            force=True,
        )

    def check(self) -> None:
        """Raises what a save in the background raised, if it has ended; does not wait."""
        if not self._manager.is_saving_in_progress():
            self.wait()

    def amend(self, meta: dict) -> None:
        """Replaces the meta of the newest checkpoint, whose arrays stay as they are."""
        self._policy.best = _best_step(meta)
        if jax.process_index() != 0:
            return
        folder = self.folder / str(meta["step"])
        _, found = checkpoint.read_meta(folder)
        path = folder / "meta" / "metadata"
        temporary = path.with_name("metadata.tmp")
        temporary.write_text(json.dumps(digests.seal(meta, found)))
        temporary.replace(path)

    def restore(self, shapes: TrainState, *, check=lambda meta: None, report=say):
        """The newest usable state, or None where there is no checkpoint.

        Args:
          shapes: tree of `jax.ShapeDtypeStruct` with shardings.
          check: raises on a `meta` that must not be continued; runs before arrays are read.
          report: hears of checkpoints that were passed over.

        Returns:
          (state, meta) or None.

        Raises:
          CheckpointError: the newest one does not fit the model, or none could be read.
          StorageError: the storage does not give them; they stay as they are.
        """
        for step in reversed(self.steps()):
            read, damage = _attempt(self._describe, step)
            if self._passed_over(step, damage, report):
                continue
            meta, trees, sums = read
            check(meta)
            # A model that does not fit is the user's to settle; only damage is passed over.
            for name in ITEMS:
                where = f"{self.folder / str(step)}/{name}"
                checkpoint.require_same(trees[name], getattr(shapes, name), where)
            arrays, damage = _attempt(self._arrays, step, shapes)
            if self._passed_over(step, damage, report):
                continue
            # All processes together work these out, and find the same.
            _, damage = _attempt(digests.require_unchanged, arrays, sums)
            if self._passed_over(step, damage, report):
                continue
            count = jax.device_put(np.int32(step), shapes.step.sharding)
            return TrainState(count, **arrays), meta
        if any(path.name.startswith("unusable-") for path in self._listing()):
            raise CheckpointError(
                f"none of the checkpoints in {self.folder} can be read; restore one from a "
                "copy, or start anew with another --workdir"
            )
        return None

    def _listing(self):
        return list(self.folder.iterdir()) if self.folder.exists() else []

    def _describe(self, step: int):
        """(meta, {item: tree of what was saved}, {item: {path: digest}})."""
        trees = checkpoint.trees_of(self.folder / str(step))
        meta, sums = checkpoint.read_meta(self.folder / str(step))
        for name, tree in trees.items():
            if sums and set(paths.flatten(tree)) != set(sums[name]):
                raise DamageError(f"{name} lists other arrays than were saved")
        return meta, trees, sums

    def _arrays(self, step: int, shapes: TrainState) -> dict:
        """{item: arrays}. Nothing here may wait for other processes: one that finds damage never
        comes. The manager's own `restore` would."""
        folder = self.folder / str(step)
        return {name: checkpoint.restored(folder, name, getattr(shapes, name)) for name in ITEMS}

    def _passed_over(self, step: int, damage: DamageError | None, report) -> bool:
        """Moves a checkpoint that any process found damaged aside, so that its step can be saved
        again; whether it did."""
        reason = _agreed(damage)
        if not reason:
            return False
        where, aside = self.folder / str(step), self.folder / f"unusable-{step}"
        if jax.process_index() == 0:
            report(f"cannot read the checkpoint {where}, trying the one before; it is now {aside}\n"
                   f"  because: {reason}")  # fmt: skip
            if aside.exists():
                aside.rmtree()
            where.rename(aside)
        _agreed(None)  # nobody goes on before it is moved
        self._manager.reload()
        return True

    def wait(self) -> None:
        """Returns when everything is on disk; raises what a save in the background raised."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def _best_step(meta: Mapping) -> int | None:
    return meta["best"]["step"] if meta.get("best") else None


def _attempt(read: Callable, *args):
    """(what `read` returns, None), or (None, the error) where the checkpoint is damaged.

    Raises:
      StorageError: the storage failed each time it was asked.
    """
    for wait in (*WAITS, None):
        try:
            with damage_of.told():
                return read(*args), None
        except DamageError as error:
            return None, error
        except StorageError as error:
            if wait is None:
                raise StorageError(
                    "the checkpoints cannot be read: the storage fails",
                    expected="files of a run that can be continued",
                    found=f"{error} (asked {len(WAITS) + 1} times)",
                    fix="see to the storage and give the same command again; nothing was changed",
                ) from error
            warn(f"the storage of the checkpoints fails, asking again in {wait:g} s: {error}")
            time.sleep(wait)
    raise AssertionError  # the last round returns or raises


def _agreed(damage: DamageError | None) -> str:
    """The damage that any process found, the first of them; "" where none did."""
    text = f"process {jax.process_index()}: {damage}" if damage else ""
    if jax.process_count() == 1:
        return str(damage or "")[:300]
    own = np.frombuffer(text.encode()[:300].ljust(300), np.uint8)
    found = (bytes(row).decode(errors="replace").strip()
             for row in multihost_utils.process_allgather(own))  # fmt: skip
    return next(filter(None, found), "")
