"""The folder of a run: its name, the config it was started with, and what may not change in it."""

import contextlib
import difflib
import hashlib
import itertools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping

import jax

from checkpoints import run_config
from checkpoints.checkpoint import CheckpointError
from core import lock, remote
from runtime import cluster
from training import stream_schedule

ROOT = "runs"
_UNSAFE = re.compile(r"[^A-Za-z0-9=._,+-]+")
_FLAGS = ("true", "false")
_NAME, _PART = 48, 24  # characters of a name without its digest, and of a field in it
LOCK = "run.lock"


def name_of(config_argument: str, overrides: Mapping[str, object]) -> pathlib.Path:
    """runs/<config>-<arguments>-<fields>-<digest>: the same command names, and resumes, a run.

    Args:
      config_argument: as given to --config, such as "configs/vlbert_pretrain.py:size=mini".
      overrides: {dotted field: value}; those that are short are told, the digest is of all.
    """
    path, _, argument = config_argument.partition(":")
    given = [part.partition("=") for part in argument.split(",") if part]
    # "mini" says what it is; of a number or a flag the name is needed.
    words = [value if value.isidentifier() and value not in _FLAGS else f"{name}={value}"
             for name, _, value in given]  # fmt: skip
    name, *parts = (_UNSAFE.sub("_", word) for word in [pathlib.Path(path).stem, *words])
    parts += [_UNSAFE.sub("_", f"{field.split('.')[-1]}={value}")
              for field, value in overrides.items()]  # fmt: skip
    told = [part for part in parts if len(part) <= _PART]
    while len("-".join([name, *told])) > _NAME:
        told.pop()
    if overrides or told != parts:
        text = "-".join([argument, *(f"{field}={value}" for field, value in overrides.items())])
        told.append(hashlib.sha256(text.encode()).hexdigest()[:6])
    return pathlib.Path(ROOT) / "-".join([name[:_NAME], *told])


@contextlib.contextmanager
def left_as_found(workdir: remote.Path) -> Iterator[None]:
    """Removes the folder again where it was made for a run that failed before it wrote anything."""
    made: list[remote.Path] = []
    if not remote.is_remote(workdir):
        folders = [workdir, *workdir.parents]
        made = list(itertools.takewhile(lambda folder: not folder.exists(), folders))
    try:
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


def opened(workdir) -> remote.Path:
    """A run folder in full.

    Raises:
      DataError: it is on gs://, and this machine may not write there.
    """
    remote.require(workdir, "--workdir", write=True)
    return remote.absolute(workdir)


@contextlib.contextmanager
def alone(workdir: remote.Path) -> Iterator[None]:
    """Context in which no other run may train in a folder; the processes of a job are one run.

    Raises:
      DataError: another run trains there; names it.
    """
    if jax.process_index() != 0:
        yield
        return
    fix = "give this run another --workdir"
    with lock.held(workdir / LOCK, f"the run folder {workdir}", fix=fix, lost=cluster.end):
        yield


def plain(config) -> dict:
    """A config as JSON values."""
    return run_config.plain(config)


def identity(config, fingerprints: Mapping[str, str]) -> dict:
    """What decides which examples a step sees: a run only continues with the same."""
    out = {"seed": config.seed}
    if stream_schedule.is_separate(config):
        out["updates of a step"] = "one per stream"
    for stream, fingerprint in fingerprints.items():
        out[f"streams.{stream}.batch_size"] = config.streams[stream].batch_size
        out[f"streams.{stream} data fingerprint"] = fingerprint
    return out


def require_same(meta: Mapping, now: Mapping, workdir) -> None:
    """Checks a checkpoint's identity against this run's.

    Raises:
      CheckpointError: names each field that differs, what was saved and what is configured now.
    """
    saved = meta["identity"]
    lines = [
        f"{field}: saved {saved.get(field, 'none')}, now {now.get(field, 'none')}"
        for field in sorted({*saved, *now})
        if saved.get(field) != now.get(field)
    ]
    if lines:
        raise CheckpointError(
            f"the run in {workdir} (step {meta['step']}) cannot be continued exactly:\n  "
            + "\n  ".join(lines)
            + "\n  fix: configure what was saved, or start another run: --workdir=<new folder>, "
            f"with --config.init={workdir} to begin with these parameters"
        )


def save_config(
    workdir: remote.Path, config, report, command: run_config.Command | None = None
) -> None:
    """Writes WORKDIR/config.json, and what it was made from; says how it differs from the last."""
    if jax.process_index() != 0:
        return
    path = workdir / run_config.CONFIG
    text = json.dumps(plain(config), indent=2, sort_keys=True) + "\n"
    before = path.read_bytes().decode("utf-8", "replace") if path.exists() else text
    if before != text:
        changed = [
            line
            for line in difflib.unified_diff(
                before.splitlines(), text.splitlines(), n=0, lineterm=""
            )
            if not line.startswith(("---", "+++", "@@"))
        ]
        report("the config differs from the one this run was last started with:\n  "
               + "\n  ".join(changed))  # fmt: skip
    workdir.mkdir(parents=True, exist_ok=True)
    remote.replace(path, text.encode())
    if command is not None:
        run_config.write_command(workdir, command)
