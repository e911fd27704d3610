"""The folder of a run: its name, the config it was started with, and what may not change in it."""

import contextlib
import difflib
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

import jax

from checkpoints.checkpoint import CheckpointError
from core import lock, remote
from runtime import cluster

ROOT = "runs"
LOCK = "run.lock"


def name_of(config_argument: str, overrides: Sequence[str]) -> pathlib.Path:
    """runs/<config>-<argument>-<overrides>: the same command names, and so resumes, the same run.

    Args:
      config_argument: as given to --config, such as "configs/vlbert_pretrain.py:size=mini".
      overrides: such as ["optimizer.lr=0.001"].
    """
    path, _, argument = config_argument.partition(":")
    text = "-".join([pathlib.Path(path).stem, *filter(None, argument.split(",")), *overrides])
    name = re.sub(r"[^A-Za-z0-9=._,-]+", "_", text)
    if len(name) > 150:  # a file name may have 255 bytes; temporary suffixes come on top
        name = f"{name[:140]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return pathlib.Path(ROOT) / name


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
    return json.loads(json.dumps(config.to_dict(), default=list))


def identity(config, fingerprints: Mapping[str, str]) -> dict:
    """What decides which examples a step sees: a run only continues with the same."""
    out = {"seed": config.seed}
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


def save_config(workdir: remote.Path, config, report) -> None:
    """Writes WORKDIR/config.json; says how it differs from the one that is there."""
    if jax.process_index() != 0:
        return
    path = workdir / "config.json"
    text = json.dumps(plain(config), indent=2, sort_keys=True) + "\n"
    written = path.read_bytes() if path.exists() else text.encode()
    if written != text.encode():
        old, new = written.decode("utf-8", "replace").splitlines(), text.splitlines()
        changed = [
            line for line in difflib.unified_diff(old, new, n=0, lineterm="")
            if not line.startswith(("---", "+++", "@@"))
        ]  # fmt: skip
        report("the config differs from the one this run was last started with:\n  "
               + "\n  ".join(changed))  # fmt: skip
    workdir.mkdir(parents=True, exist_ok=True)
    remote.replace(path, text.encode())
