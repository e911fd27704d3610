"""Compiled programs kept in a folder, so that the next start of a run need not compile them again.

Who can write to the folder decides what later runs execute: share it with nobody you do not trust.
On CPUs a folder belongs to one kind of processor, which names the user's own one; on GPUs and TPUs
the key tells devices apart.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import re
import tempfile

import jax
from jax.experimental.compilation_cache import compilation_cache

from core import remote
from core.console import warn

AUTO = "auto"  # value of config.compile_cache: the user's own folder
LIMIT = 2 << 30  # bytes kept in it


def enable(folder: str) -> None:
    """Keeps every program compiled from now on in `folder`, and takes from it what is there.

    Programs compiled before the call are not kept. With several processes all of them read and the
    first one writes; the folder must be one that all of them see. Nothing is ever removed from it,
    but from the user's own: the oldest programs above LIMIT.

    A folder that cannot be used is told, and nothing is kept.

    Args:
      folder: of this machine, or gs://; made where it is not there. "": nothing is kept. AUTO: the
        folder that JAX has been told already (JAX_COMPILATION_CACHE_DIR), or `own_folder()`; of
        several processes, which need not see one folder, none.
    """
    if folder == AUTO:
        if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
            return
        if jax.distributed.is_initialized():
            return
        folder = str(own_folder())
        if _usable(folder):
            _trim(pathlib.Path(folder))
            _keep(folder)
    elif folder and (remote.is_remote(folder) or _usable(folder)):
        _keep(folder)


def own_folder() -> pathlib.Path:
    """The user's folder for programs of this kind of processor."""
    return remote.cache() / "programs" / processor()


def processor() -> str:
    """A name of this machine's kind of processor: code made for one may end another's process."""
    told = f"{platform.machine()} {platform.processor()}"
    with contextlib.suppress(OSError):  # only Linux has it
        text = pathlib.Path("/proc/cpuinfo").read_text()
        first = text.split("\n\n")[0]  # of the first core; speeds change from one read to the next
        names = "vendor_id|cpu family|model|stepping|flags|CPU [a-z]+|Features|isa"
        told += str(re.findall(rf"^((?:{names})\s*:.*)$", first, re.MULTILINE))
    return f"{platform.machine() or 'cpu'}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def _keep(folder: str) -> None:
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", folder)
    # JAX leaves out what compiles in less than a second; a start has many such programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # JAX looks at the setting once, at the first compilation, which may have been earlier.
    compilation_cache.reset_cache()


def _usable(folder: str) -> bool:
    """Whether files can be written to a folder of this machine, which is made; if not, says why."""
    try:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        warn(
            f"compiled programs are not kept: {error}\n  fix: --config.compile_cache=FOLDER, one "
            'that can be written, or --config.compile_cache="" to keep none'
        )
        return False


def _trim(folder: pathlib.Path) -> None:
    """Removes the oldest programs above LIMIT; another run may do the same.

    JAX's own limit keeps a file with the time of use beside each program, and keeps nothing more
    once one of these is missing, as after a kill between the two.
    """
    found = []
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= LIMIT:
            return
        with contextlib.suppress(OSError):
            os.remove(path)
        total -= size
