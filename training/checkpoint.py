"""Checkpoints of a run, with Orbax: asynchronous, the newest n and the best one.

WORKDIR/checkpoints/<step>/ holds three items: `params`, `opt_state` and `meta` (JSON: step, draw
counters, data fingerprints, seed, feature spec, config, digests of the arrays …). A checkpoint is
written beside its place and renamed when complete, so a run killed while saving leaves the previous
one untouched. One that was damaged since is passed over for the one before.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from input_pipeline import remote
from input_pipeline.schema import ConfigError
from training import digests, paths
from training.state import TrainState

FOLDER = "checkpoints"
ITEMS = ("params", "opt_state")
_SEAL = "digests"  # of the arrays and, under "meta", of the rest of the meta item

# What goes wrong around a sound checkpoint; anything else in reading one is taken for damage.
_NOT_DAMAGE = (MemoryError, PermissionError, jax.errors.JaxRuntimeError)


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says which, why and what to do."""


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
        self.folder = _absolute(workdir) / FOLDER
        self._policy = _NewestAndBest(keep)
        self._manager = _manager(self.folder, self._policy, write=True)
        if self.steps():
            meta, _ = _attempt(_meta, self.folder / str(self.steps()[-1]))
            best = meta and meta.get("best")
            self._policy.best = best["step"] if best else None

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, meta: dict) -> None:
        """Starts writing; returns once the state is copied, so that its buffers may be reused.

        Args:
          state: at the end of a step.
          meta: JSON; "step" names the checkpoint, "best" = {"step", …} or None is kept for good.
        """
        self._policy.best = meta["best"]["step"] if meta.get("best") else None
        found = {name: digests.of(getattr(state, name)) for name in ITEMS}
        self._manager.save(
            meta["step"],
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                opt_state=ocp.args.StandardSave(state.opt_state),
                # A copy: it is written in the background, while the loop adds to its window.
                meta=ocp.args.JsonSave(_sealed(meta, found)),
            ),
            force=True,
        )

    def check(self) -> None:
        """Raises what a save in the background raised, if it has ended; does not wait."""
        if not self._manager.is_saving_in_progress():
            self.wait()

    def amend(self, meta: dict) -> None:
        """Replaces the meta of the newest checkpoint, whose arrays stay as they are."""
        self._policy.best = meta["best"]["step"] if meta.get("best") else None
        if jax.process_index() != 0:
            return
        folder = self.folder / str(meta["step"])
        _, found = _unsealed(folder)
        path = folder / "meta" / "metadata"
        temporary = path.with_name("metadata.tmp")
        temporary.write_text(json.dumps(_sealed(meta, found)))
        temporary.replace(path)

    def restore(self, shapes: TrainState, *, check=lambda meta: None, report=print):
        """The newest usable state, or None where there is no checkpoint.

        Args:
          shapes: tree of `jax.ShapeDtypeStruct` with shardings.
          check: raises on a `meta` that must not be continued; runs before arrays are read.
          report: hears of checkpoints that were passed over.

        Returns:
          (state, meta) or None.

        Raises:
          CheckpointError: the newest one does not fit the model, or none could be read.
        """
        for step in reversed(self.steps()):
            read, damage = _attempt(self._describe, step)
            if self._passed_over(step, damage, report):
                continue
            meta, trees, sums = read
            check(meta)
            # A model that does not fit is the user's to settle; only damage is passed over.
            _require_same(trees["params"], shapes.params, f"{self.folder / str(step)}/params")
            _require_same(
                trees["opt_state"], shapes.opt_state, f"{self.folder / str(step)}/opt_state"
            )
            arrays, damage = _attempt(self._arrays, step, shapes)
            if self._passed_over(step, damage, report):
                continue
            # All processes together work these out, and find the same.
            _, damage = _attempt(_require_unchanged, arrays, sums)
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
        saved = self._manager.item_metadata(step)
        trees = {"params": saved.params.tree, "opt_state": saved.opt_state.tree}
        meta, sums = _unsealed(self.folder / str(step))
        for name, tree in trees.items():
            if sums and set(paths.flatten(tree)) != set(sums[name]):
                raise ValueError(f"{name} lists other arrays than were saved")
        return meta, trees, sums

    def _arrays(self, step: int, shapes: TrainState) -> dict:
        """{item: arrays}. Nothing here may wait for other processes: one that finds damage never
        comes. The manager's own `restore` would."""
        items = {}
        for name in ITEMS:
            handler = ocp.StandardCheckpointHandler()
            with contextlib.closing(handler):
                items[name] = handler.restore(
                    self.folder / str(step) / name,
                    args=ocp.args.StandardRestore(getattr(shapes, name)),
                )
        return items

    def _passed_over(self, step: int, damage: Exception | None, report) -> bool:
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


def load_params(source, shapes=None, *, prefer_best: bool = True):
    """Parameters alone, for another run's start, for evaluation and for inference.

    Args:
      source: a run's folder, its `checkpoints` folder, or the folder of one step.
      shapes: what they must be, with shardings; without, numpy arrays come back as saved.
      prefer_best: of a run with a best checkpoint take that, else the newest.

    Returns:
      (nested dict of parameters, meta).

    Raises:
      CheckpointError: no checkpoint there, or parameters that differ; lists every one.
    """
    folder, step = _find(source, prefer_best)
    manager = _manager(folder, _NewestAndBest(1), write=False)
    try:
        meta, sums = _unsealed(folder / str(step))
        saved = manager.item_metadata(step).params.tree
        if shapes is None:
            restore = ocp.args.StandardRestore(
                jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), saved)
            )
        else:
            _require_same(saved, shapes, f"{folder / str(step)}/params")
            restore = ocp.args.StandardRestore(shapes)
        params = manager.restore(step, args=ocp.args.Composite(params=restore)).params
        _require_unchanged(dict(params=params), sums)
        return params, meta
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"cannot read the checkpoint {folder / str(step)}: {error}") from None
    finally:
        manager.close()


def read(folder) -> tuple[dict[str, dict], dict]:
    """Everything in the folder of one step, checked, on the host.

    Returns:
      ({"params" or "opt_state": {path: numpy array}}, meta).

    Raises:
      ValueError, OSError: damage.
    """
    folder = _absolute(folder)
    meta, sums = _unsealed(folder)
    arrays = {}
    for name in ITEMS:
        with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
            shapes = handler.metadata(folder / name).tree
            zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
            arrays[name] = handler.restore(folder / name, args=ocp.args.StandardRestore(zeros))
    _require_unchanged(arrays, sums)
    return {name: paths.flatten(tree) for name, tree in arrays.items()}, meta


def holds_one(path: remote.Path) -> bool:
    """Whether a folder is a run with checkpoints, its checkpoints folder, or one step of them."""
    if not path.is_dir():
        return False
    if (path / "params").exists() or (path / FOLDER).exists():
        return True
    return any(p.name.isdigit() and (p / "params").exists() for p in path.iterdir())


def _absolute(path) -> epath.Path:
    """Orbax takes no relative paths."""
    return epath.Path(remote.absolute(path))


def _find(source, prefer_best: bool):
    """(checkpoints folder, step) of what the user named."""
    source = _absolute(source)
    if (source / "params").exists():
        return source.parent, int(source.name)
    folder = source / FOLDER if (source / FOLDER).exists() else source
    steps = (
        sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.exists() else []
    )
    if not steps:
        raise CheckpointError(
            f"no checkpoint in {source}; expected a run's folder, its {FOLDER!r} folder, or the "
            "folder of one step"
        )
    best = _meta(folder / str(steps[-1])).get("best") if prefer_best else None
    return folder, best["step"] if best and best["step"] in steps else steps[-1]


class _Manager(ocp.CheckpointManager):
    """Asks JAX's preemption service nothing: training/signals.py does, and counts its questions."""

    def reached_preemption(self, step: int) -> bool:
        del step
        return False


def _manager(folder, policy, write: bool) -> ocp.CheckpointManager:
    return _Manager(
        folder,
        item_handlers=dict(
            params=ocp.StandardCheckpointHandler(),
            opt_state=ocp.StandardCheckpointHandler(),
            meta=ocp.JsonCheckpointHandler(),
        ),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            cleanup_tmp_directories=write,
            create=write,
        ),
    )


def _sealed(meta: dict, found: dict) -> dict:
    """`meta` as JSON values, with the digests {item: {path: digest}} and its own."""
    meta = json.loads(json.dumps(meta)) | {_SEAL: found}
    return meta | {_SEAL: found | {"meta": digests.of_json(meta)}}


def _unsealed(folder) -> tuple[dict[str, Any], dict]:
    """(meta, digests) of the checkpoint in `folder`; no digests where it was saved without.

    Raises:
      ValueError: bytes of the meta item have changed.
    """
    meta = ocp.JsonCheckpointHandler().restore(folder / "meta")
    found = dict(meta.pop(_SEAL, {}))
    if found and found.pop("meta", None) != digests.of_json(meta | {_SEAL: found}):
        raise ValueError("bytes of meta have changed since it was saved")
    return meta, found


def _meta(folder) -> dict[str, Any]:
    """The JSON item of the checkpoint in `folder`."""
    return _unsealed(folder)[0]


def _require_unchanged(arrays: dict, sums: dict) -> None:
    """Compares {item: arrays} with the digests {item: {path: digest}} they were saved with."""
    changed = []
    for item, saved in sums.items():
        found = digests.of(arrays[item]) if item in arrays else saved
        changed += [f"{item}/{path}" for path in saved if found.get(path) != saved[path]]
    if changed:
        raise ValueError(f"bytes have changed since it was saved: {', '.join(changed)}")


def _attempt(read: Callable, *args):
    """(what `read` returns, None), or (None, the error) where the checkpoint is damaged."""
    try:
        return read(*args), None
    except _NOT_DAMAGE:
        raise
    except Exception as error:
        return None, error


def _agreed(damage: Exception | None) -> str:
    """The damage that any process found, the first of them; "" where none did."""
    text = f"process {jax.process_index()}: {damage}" if damage else ""
    if jax.process_count() == 1:
        return str(damage or "")[:300]
    own = np.frombuffer(text.encode()[:300].ljust(300), np.uint8)
    found = (bytes(row).decode(errors="replace").strip()
             for row in multihost_utils.process_allgather(own))  # fmt: skip
    return next(filter(None, found), "")


def differences(saved, wanted) -> list[str]:
    """What differs in names, shapes and types between two trees of arrays or shapes."""
    saved, wanted = paths.flatten(saved), paths.flatten(wanted)
    lines = [f"missing in the checkpoint: {path}" for path in wanted if path not in saved]
    lines += [f"not in the model: {path}" for path in saved if path not in wanted]
    for path in saved:
        if path in wanted:
            here, there = ((tuple(x.shape), str(x.dtype)) for x in (wanted[path], saved[path]))
            if here != there:
                lines.append(f"{path}: {there} in the checkpoint, {here} in the model")
    return lines


def _require_same(saved, wanted, where: str) -> None:
    # Orbax alone would cast another type silently.
    lines = differences(saved, wanted)
    if lines:
        raise CheckpointError(f"{where} does not fit the model:\n  " + "\n  ".join(lines))
