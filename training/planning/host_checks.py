"""What a host says of itself before a job begins: one short text for each check."""

import collections
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import shutil
import subprocess
import uuid
from collections.abc import Callable, Sequence

import jax
from ml_collections import ConfigDict

from core import remote

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow")


def attempt(check: Callable[[], str]) -> str:
    """What a check returns, or "FAILED: " and its error: a host always reports."""
    try:
        return check()
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {error}"


def commit(root: pathlib.Path = ROOT) -> str:
    """The commit checked out, with "+" where files differ from it; "none" outside git."""

    def git(*arguments: str) -> str:
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


def config_digest(config: ConfigDict) -> str:
    """A digest of every field of the config."""
    text = json.dumps(config.to_dict(), sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def free_space(paths: Sequence[str], least_gb: float) -> str:
    """Free space in GB on the fullest local disk of some folders.

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


def data(config: ConfigDict) -> str:
    """Opens the run's data as training does, reads this host's share of a batch; its digest."""
    from runtime import sharding
    from training import config_checks, mesh_checks, setup

    config_checks.check(config)
    mesh = sharding.make_mesh(config.mesh)
    mesh_checks.check(config, mesh, "eval")  # its batches, and what every mode needs
    with jax.set_mesh(mesh):
        _, digests = setup.prepare(config, mesh)
    text = json.dumps(digests, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def same_folder(token: remote.Path) -> str:
    """Whether the file that process 0 wrote is here.

    Raises:
      FileNotFoundError: the run folder is not one that all hosts share.
    """
    if not token.exists():
        raise FileNotFoundError(
            f"{token}, which process 0 wrote, is not here: the run folder must be one that all "
            "hosts share, such as gs://"
        )
    return "ok"
