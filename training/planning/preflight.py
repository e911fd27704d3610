"""Whether all hosts of a job are alike and can reach what it needs, before it begins.

python -m training.planning.preflight --config=configs/vlbert_pretrain.py \
    --workdir=gs://… [--multihost]

Takes the command line of main.py and runs on every host at the same time. It prints a line a host
and exits 0, or names the host that differs, what is wrong with it and the fix, and exits 1. What
needs no devices is compared first: a host with another version is found, not waited for.
"""

import collections
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

import jax

from core import remote
from core.console import command, say, warn
from runtime import coordination

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow")
FIXES = {
    "commit": "check out the same commit on every host",
    "source": "copy the same files to every host",
    "command": "start every host with the same --workdir and --mode",
    "config": "start every host with the same --config and overrides",
    "versions": "pip install -r requirements.lock on every host",
    "devices": "all hosts need the same number and kind of devices",
    "data": "give every host the same data; the digests above are of what it holds",
}


def attempt(check: Callable[[], str]) -> str:
    """What a check says, or "FAILED: " and its error; no error of a host may keep it silent."""
    try:
        return check()
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {error}"


def commit(root: pathlib.Path = ROOT) -> str:
    """The commit checked out, with "+" where files differ from it; "none" outside git."""

    def git(*arguments) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    if not (root / ".git").exists():
        return "none"
    return git("rev-parse", "--short=12", "HEAD") + "+" * bool(git("status", "--porcelain"))


def source_digest(root: pathlib.Path = ROOT) -> str:
    """A digest of the program's own files, whether or not git knows them."""
    packages = [path.parent for path in root.glob("*/__init__.py") if path.parent.name != "tests"]
    digest = hashlib.sha256()
    for path in sorted([root / "main.py", *(p for q in packages for p in q.rglob("*.py"))]):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def versions() -> str:
    """Python's and the packages' versions."""
    found = [f"python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def config_digest(config) -> str:
    """A digest of every field of the config."""
    text = json.dumps(config.to_dict(), sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def free_space(paths: Sequence[str], least_gb: float) -> str:
    """Free disk space, in GB, of the fullest of these folders that are of this machine.

    Raises:
      OSError: less than `least_gb`.
    """
    least = []
    for path in paths:
        if "://" not in path:
            folder = pathlib.Path(path).absolute()
            while not folder.exists():
                folder = folder.parent
            least.append((shutil.disk_usage(folder).free / 1e9, str(folder)))
    if not least:
        return "remote"
    free, folder = min(least)
    if free < least_gb:
        raise OSError(f"{folder} has {free:.1f} GB left, needed are --free_gb={least_gb:g}")
    return f"{free:.0f} GB free"


def probe(workdir: str) -> str:
    """Writes a file into the run folder, reads it and deletes it.

    Raises:
      OSError: one of these does not work.
    """
    folder = remote.path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder / f".preflight-{uuid.uuid4().hex}", uuid.uuid4().hex
    path.write_text(text)
    found = path.read_text()
    path.unlink()
    if found != text or path.exists():
        raise OSError(f"{path} was written, but reads or deletes as something else")
    return "ok"


def devices() -> str:
    """Number and kind of this host's devices."""
    kinds = collections.Counter(device.device_kind for device in jax.local_devices())
    return ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items()))


def data(config) -> str:
    """Opens the run's data as training does, reads this host's share of a batch; its digest."""
    from runtime import sharding
    from training import setup

    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        _, digests = setup.prepare(config, mesh)
    text = json.dumps(digests, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def gather(stage: str, facts: Mapping[str, str], seconds: float) -> dict[int, dict[str, str]]:
    """The facts of every process, by its number.

    Args:
      stage: a name of its own for each call.
      facts: of this process.
      seconds: to wait for the slowest.

    Returns:
      {process: facts}, without the processes that left none in time.
    """
    client, count = coordination.client(), coordination.num_processes()
    if client is None:
        return {0: dict(facts)}
    client.key_value_set(f"preflight/{stage}/{coordination.process_id()}", json.dumps(facts))
    found, until = {}, time.monotonic() + seconds
    for process in range(count):
        wait = max(1.0, until - time.monotonic())
        try:
            text = client.blocking_key_value_get(f"preflight/{stage}/{process}", int(1000 * wait))
        except jax.errors.JaxRuntimeError:
            continue
        found[process] = json.loads(text)
    return found


def compare(found: Mapping[int, Mapping[str, str]], count: int, seconds: float) -> list[str]:
    """What is wrong with the hosts: one text a problem, [] where nothing is.

    Args:
      found: {process: {what: value}}, as `gather` returns it.
      count: of processes there should be.
      seconds: that were waited.
    """

    def name(process):
        return f"{found[process]['host']} (process {process})"

    problems = [
        f"process {process} of {count} did not report within {seconds:g} s\n"
        "  fix: look at its own output; was the command started on every host?"
        for process in range(count)
        if process not in found
    ]
    for what in dict.fromkeys(what for facts in found.values() for what in facts):
        values = {process: facts[what] for process, facts in found.items() if what in facts}
        failed = [process for process, value in values.items() if value.startswith("FAILED")]
        problems += [f"{what}: {name(process)}: {values[process]}" for process in failed]
        groups = collections.defaultdict(list)
        for process in values.keys() - failed:
            groups[values[process]].append(process)
        if what not in FIXES or len(groups) < 2:
            continue
        most, *others = sorted(groups, key=lambda value: (-len(groups[value]), groups[value]))
        for other in others:
            hosts = ", ".join(name(process) for process in sorted(groups[other]))
            usual, odd = _difference(most, other)
            problems.append(
                f"{what}: {hosts}: {odd}\n  the other {len(groups[most])}: {usual}\n"
                f"  fix: {FIXES[what]}"
            )
    return problems


def _difference(first: str, second: str) -> tuple[str, str]:
    """Two comma-separated lists without the parts they share."""
    a, b = first.split(", "), second.split(", ")
    return tuple(
        ", ".join(part for part in mine if part not in others) or "(nothing)"
        for mine, others in ((a, b), (b, a))
    )


def table(found: Mapping[int, Mapping[str, str]]) -> str:
    """A line a host; long values as a digest, failures as that word."""
    names = list(dict.fromkeys(what for facts in found.values() for what in facts))
    rows = [("process", *names)]
    for process, facts in sorted(found.items()):
        rows.append((str(process), *(_short(what, facts.get(what, "")) for what in names)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _short(what: str, value: str) -> str:
    if value.startswith("FAILED"):
        return "FAILED"
    if what in ("versions", "command"):
        return hashlib.sha256(value.encode()).hexdigest()[:8]
    return value


def run(config, workdir: str, *, mode: str, seconds: float, least_gb: float) -> list[str]:
    """Checks this host, and compares it with the others; the first process prints.

    Args:
      config: of the run.
      workdir: run folder, of this machine or gs://.
      mode: of main.py.
      seconds: to wait for the slowest host, at each of two stages.
      least_gb: disk space that must be free, in GB.

    Returns:
      The problems, the same on every process that hears of the others.
    """
    client, count = coordination.client(), coordination.num_processes()
    facts = dict(
        host=socket.gethostname(),
        commit=attempt(commit),
        source=attempt(source_digest),
        command=f"--workdir={workdir}, --mode={mode}",
        config=attempt(lambda: config_digest(config)),
        versions=attempt(versions),
        disk=attempt(lambda: free_space([workdir, config.data.dir], least_gb)),
        workdir=attempt(lambda: probe(workdir)),
    )
    # Left by the first process until all have looked for it: the folder must be the same one.
    token = remote.path(workdir) / ".preflight-first"
    first = client is None or coordination.process_id() == 0
    if first and facts["workdir"] == "ok":
        token.write_text(str(os.getpid()))
    try:
        found = gather("hosts", facts, seconds)
        problems = compare(found, count, seconds)
        if not problems:
            more = dict(
                shared=attempt(lambda: _same_folder(token)),
                devices=attempt(devices),
                data=attempt(lambda: data(config)),
            )
            added = gather("devices", more, seconds)
            problems = compare(
                {process: {"host": found[process]["host"]} | new for process, new in added.items()},
                count,
                seconds,
            )
            found = {process: old | added.get(process, {}) for process, old in found.items()}
    finally:
        if first:
            token.unlink(missing_ok=True)
    if first:
        say(table(found))
        say(f"versions: {found[0]['versions']}")
        changed = [str(p) for p, facts in found.items() if facts["commit"].endswith("+")]
        if changed:
            say(f"note: changes that are not committed on process {', '.join(changed)}")
        for problem in problems:
            warn(f"problem: {problem}")
        say(f"preflight: {len(problems)} problems" if problems else f"preflight: {count} ready")
    return problems


def _same_folder(token: remote.Path) -> str:
    if not token.exists():
        raise FileNotFoundError(
            f"{token}, which process 0 wrote, is not here: the run folder must be one that all "
            "hosts share, such as gs://"
        )
    return "ok"


@command
def main(argv: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    from absl import app, flags, logging

    from runtime import cluster

    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; flags start with --")
    values = flags.FLAGS
    if not values["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    cluster.join(values.multihost)
    problems = run(
        values.config,
        values.workdir,
        mode=values.mode,
        seconds=values.seconds,
        least_gb=values.free_gb,
    )
    sys.stdout.flush()
    return 1 if problems else 0


if __name__ == "__main__":
    from absl import app, flags
    from ml_collections import config_flags

    from core.flags import parse

    # As in main.py: TensorFlow's and Orbax' notices would bury the table.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    config_flags.DEFINE_config_file("config", None, "as for main.py", lock_config=True)
    flags.DEFINE_string("workdir", None, "as for main.py")
    flags.DEFINE_string("mode", "train", "as for main.py")
    flags.DEFINE_bool("multihost", None, "as for main.py")
    flags.DEFINE_float("seconds", 600, "to wait for the slowest host", lower_bound=1)
    flags.DEFINE_float("free_gb", 5, "disk space that must be free, in GB", lower_bound=0)
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse)
