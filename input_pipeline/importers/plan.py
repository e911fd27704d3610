"""The folder of an unfinished import: its plan, and a lock for the process that works on it."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from core import remote, remote_folders
from core.errors import DataError
from core.reading import reading

FORMAT = 1


def stamp(path: str) -> tuple[str, int, int]:
    """(path, bytes, time of the last change in ns) of a file, or of all files of a folder.

    On gs:// a digest of the objects' generations stands for the time.
    """
    try:
        if remote.is_remote(path):
            return remote_folders.stamp(path)
        if not os.path.isdir(path):
            stat = os.stat(path)
            return path, stat.st_size, stat.st_mtime_ns
        # LMDB's readers touch its lock file.
        stats = [
            os.stat(os.path.join(folder, name))
            for folder, _, names in os.walk(path)
            for name in names
            if name != "lock.mdb"
        ]
    except OSError as error:
        raise DataError(
            "an input cannot be read",
            where=path,
            expected="a file or folder",
            found=error.strerror,
            fix="check the path",
        ) from error
    return path, sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


@contextlib.contextmanager
def claimed(partial: pathlib.Path, plan: dict) -> Iterator[None]:
    """Holds the folder of an unfinished import for this process alone; makes it where it is not.

    Raises:
      DataError: another process has it, it was begun with another plan, or it is something else.
    """
    plan = json.loads(json.dumps({"format": FORMAT, **plan}, default=str))
    partial.mkdir(parents=True, exist_ok=True)
    with open(partial / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                "another process works on this import",
                where=str(partial),
                expected="one import into a store at a time",
                found="a lock held by another process",
                fix="wait for it, or choose another --out",
            ) from error
        path = partial / "plan.json"
        if path.exists():
            with damage_told(path, partial):
                _compare(json.loads(path.read_text()), plan, partial)
        elif set(os.listdir(partial)) - {"lock", ".plan.json"}:
            raise DataError(
                "a folder in the place of an unfinished import is something else",
                where=str(partial),
                expected="no such folder, or one with a plan.json",
                found=sorted(os.listdir(partial))[:10],
                fix="remove it, or choose another --out",
            )
        (partial / ".plan.json").write_text(json.dumps(plan))
        (partial / ".plan.json").replace(path)
        for leftover in partial.glob(".part-*"):  # of a run that was killed
            shutil.rmtree(leftover)
        yield


def damage_told(path: pathlib.Path, partial: pathlib.Path) -> AbstractContextManager[None]:
    """Around code that reads what an unfinished import has written."""
    return reading(
        str(path), "an unfinished import is damaged", fix=f"remove {partial} to start anew"
    )


def _compare(old: dict, new: dict, partial: pathlib.Path) -> None:
    """Raises DataError if finished parts were made with another plan."""
    old = dict(old)
    # What was imported without bad images is what leaving them out gives.
    if (old.get("on_bad"), new["on_bad"]) == ("error", "skip"):
        old["on_bad"] = "skip"
    if old == new:
        return
    was, now = _flat(old), _flat(new)
    changed = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    named = [name for name in changed if name != "parts"] or changed
    raise DataError(
        f"an unfinished import was begun with other input or options: {', '.join(named[:5])}",
        where=str(partial),
        expected=", ".join(f"{name}={was.get(name)!r}" for name in named[:5]) + " as it was begun",
        found=", ".join(f"{name}={now.get(name)!r}" for name in named[:5]),
        fix=f"repeat the command as it was, or remove {partial} to start anew",
    )


def _flat(plan: dict) -> dict[str, Any]:
    flat = {}
    for name, value in plan.items():
        if name == "files":
            flat.update({path: f"{size} bytes, changed {mtime}" for path, size, mtime in value})
        elif isinstance(value, dict):
            flat.update({f"{name}.{key}": part for key, part in value.items()})
        else:
            flat[name] = value
    flat["parts"] = len(plan["parts"])
    return flat
