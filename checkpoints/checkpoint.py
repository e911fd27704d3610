"""A checkpoint: what its folder holds, and reading it.

WORKDIR/checkpoints/<step>/ holds three items: `params`, `opt_state` and `meta` (JSON: step, draw
counters, data fingerprints, seed, feature spec, config, digests of the arrays …).
"""

import contextlib
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from checkpoints import damage, digests
from core import remote
from core.errors import UserError
from runtime import paths

FOLDER = "checkpoints"
ITEMS = ("params", "opt_state")
_TRIES = 5  # a run that goes on may delete a checkpoint while it is read


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message says which, why and what to do."""


def load_params(
    source: str | os.PathLike, shapes: Any = None, *, prefer_best: bool = True
) -> tuple[Any, dict[str, Any]]:
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
    for _ in range(_TRIES):
        folder, step = _find(source, prefer_best)
        try:
            with damage.told():
                return _load(folder / str(step), shapes)
        except damage.StorageError as error:
            raise CheckpointError(
                f"cannot read the checkpoint {folder / str(step)}: the storage fails",
                found=str(error),
                fix="see to the storage and give the same command again",
            ) from None
        except damage.DamageError as error:
            if (folder / str(step)).exists():
                raise _unreadable(folder, step, error) from None
            # A run that goes on here has replaced it by a newer one.
    raise CheckpointError(f"the checkpoints in {folder} are replaced faster than they are read")


def _load(folder: epath.Path, shapes: Any) -> tuple[Any, dict[str, Any]]:
    """`load_params` from the folder of one step."""
    meta, sums = read_meta(folder)
    saved = trees_of(folder, ("params",))["params"]
    if shapes is None:
        shapes = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), saved)
    else:
        require_same(saved, shapes, f"{folder}/params")
    params = restored(folder, "params", shapes)
    digests.require_unchanged(dict(params=params), sums)
    return params, meta


def _unreadable(folder: epath.Path, step: int, error: Exception) -> CheckpointError:
    others = [f"{folder / str(other)}" for other in _steps(folder) if other != step]
    return CheckpointError(
        f"cannot read the checkpoint {folder / str(step)}: it is damaged",
        found=str(error),
        fix="move this folder away, then another one is taken"
        + (f": {', '.join(others[-3:])}" if others else "; there is no other here"),
    )


def trees_of(folder: epath.Path, items: Sequence[str] = ITEMS) -> dict[str, Any]:
    """{item: tree of what was saved of it}, by what the folder of a step says of its arrays.

    Raises:
      DamageError: it is not understood. Other errors as `damage.told` knows them.
    """
    trees = {}
    for name in items:
        with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
            try:
                trees[name] = handler.metadata(folder / name).tree
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                if damage.is_known(error):
                    raise
                # It reads nothing but Orbax' own files.
                raise damage.DamageError(
                    f"what it says of its arrays is not understood: {error}"
                ) from error
    return trees


def restored(folder: epath.Path, item: str, shapes: Any) -> Any:
    """The arrays of an item in the folder of a step; nothing here waits for other processes."""
    with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
        return handler.restore(folder / item, args=ocp.args.StandardRestore(shapes))


def read(folder: remote.Path) -> tuple[dict[str, dict], dict]:
    """Everything in the folder of one step, checked, on the host.

    Returns:
      ({"params" or "opt_state": {path: numpy array}}, meta).

    Raises:
      ValueError, OSError: damage.
    """
    folder = absolute(folder)
    meta, sums = read_meta(folder)
    arrays = {}
    for name, tree in trees_of(folder).items():
        arrays[name] = restored(
            folder, name, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)
        )
    digests.require_unchanged(arrays, sums)
    return {name: paths.flatten(tree) for name, tree in arrays.items()}, meta


def holds_one(path: remote.Path) -> bool:
    """Whether a folder is a run with checkpoints, its checkpoints folder, or one step of them."""
    if not path.is_dir():
        return False
    if (path / "params").exists() or (path / FOLDER).exists():
        return True
    return any(p.name.isdigit() and (p / "params").exists() for p in path.iterdir())


def absolute(path: str | os.PathLike) -> epath.Path:
    """A path in full: Orbax takes no relative ones."""
    return epath.Path(remote.absolute(path))


def read_meta(folder: epath.Path) -> tuple[dict[str, Any], dict]:
    """(meta, digests) of the checkpoint in `folder`; no digests where it was saved without.

    Raises:
      DamageError: bytes of the meta item have changed. Other errors as `damage.told` knows them.
    """
    meta, found = digests.unseal(ocp.JsonCheckpointHandler().restore(folder / "meta"))
    best = meta.get("best")
    if not isinstance(meta.get("step"), int) or not (
        best is None or (isinstance(best, dict) and isinstance(best.get("step"), int))
    ):
        raise damage.DamageError("meta does not say which step it is of")
    return meta, found


def _steps(folder: epath.Path) -> list[int]:
    """Steps of the complete checkpoints in a checkpoints folder, oldest first."""
    if not folder.exists():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())


def _find(source: str | os.PathLike, prefer_best: bool) -> tuple[Any, int]:
    """(checkpoints folder, step) of what the user named."""
    named = absolute(source)
    if (named / "params").exists() and named.name.isdecimal():
        return named.parent, int(named.name)
    folder = named / FOLDER if (named / FOLDER).exists() else named
    steps = _steps(folder)
    if not steps:
        raise CheckpointError(
            f"no checkpoint in {source}; expected a run's folder, its {FOLDER!r} folder, or the "
            "folder of one step"
        )
    if not prefer_best:
        return folder, steps[-1]
    try:
        with damage.told():
            best = read_meta(folder / str(steps[-1]))[0].get("best")
    except (damage.DamageError, damage.StorageError) as error:
        raise _unreadable(folder, steps[-1], error) from None
    return folder, best["step"] if best and best["step"] in steps else steps[-1]


class _Manager(ocp.CheckpointManager):
    """Asks JAX's preemption service nothing: runtime/signals.py does, and counts its questions."""

    def reached_preemption(self, step: int) -> bool:
        del step
        return False


def manager(folder: epath.Path, policy: Any) -> ocp.CheckpointManager:
    """Orbax's manager of a checkpoints folder; makes it, and clears what interrupted saves left.

    Args:
      folder: in full.
      policy: which checkpoints stay when a newer one is saved.
    """
    return _Manager(
        folder,
        item_handlers=dict(
            params=ocp.StandardCheckpointHandler(),
            opt_state=ocp.StandardCheckpointHandler(),
            meta=ocp.JsonCheckpointHandler(),
        ),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            cleanup_tmp_directories=True,
            create=True,
        ),
    )


def require_same(saved: Any, wanted: Any, where: str) -> None:
    """Compares two trees of arrays or shapes; Orbax alone would cast another type silently.

    Raises:
      CheckpointError: names, shapes or types differ; lists every one.
    """
    lines = _differences(saved, wanted)
    if lines:
        raise CheckpointError(f"{where} does not fit the model:\n  " + "\n  ".join(lines))


def _differences(saved: Any, wanted: Any) -> list[str]:
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
