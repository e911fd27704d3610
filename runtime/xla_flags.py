"""Flags that let XLA send while it computes, of those that the installed XLA knows.

  python -m runtime.xla_flags      # LIBTPU_INIT_ARGS=… or XLA_FLAGS=…, for scripts/jobs/worker.sh

XLA ends a process that is given a flag it does not know, and its flags change between versions, so
each is looked for in the library first. What the variable holds already comes last and wins.
"""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)

import importlib.util
import mmap
import os
import pathlib
from collections.abc import Mapping, Sequence

TPU = (
    "xla_tpu_enable_latency_hiding_scheduler",
    "xla_enable_async_all_gather",
    "xla_enable_async_all_reduce",
    "xla_tpu_enable_async_collective_fusion",
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather",
    "xla_tpu_enable_async_collective_fusion_fuse_all_reduce",
    "xla_tpu_enable_async_collective_fusion_multiple_steps",
    "xla_tpu_overlap_compute_collective_tc",
    "xla_tpu_enable_data_parallel_all_reduce_opt",
    "xla_tpu_data_parallel_opt_different_sized_ops",
)
GPU = ("xla_gpu_enable_latency_hiding_scheduler",)
CUDA = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")


def known(flags: Sequence[str], library: pathlib.Path) -> list[str]:
    """Those of the flags whose names stand in a shared library, whole."""
    if not library.is_file() or not library.stat().st_size:
        return []
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return [flag for flag in flags if text.find(f"{flag}\0".encode()) >= 0]


def assignment(environment: Mapping[str, str]) -> str:
    """NAME=FLAGS of the variable that the installed XLA reads; "" where there is nothing to add.

    Args:
      environment: of the process.
    """
    if library := _library("libtpu", "libtpu.so"):
        return _with("LIBTPU_INIT_ARGS", known(TPU, library), environment)
    plugins = [found for name in CUDA if (found := _library(name, "xla_cuda_plugin.so"))]
    common = _library("jaxlib", "libjax_common.so")
    if not plugins or not common:
        return ""
    flags: Sequence[str] = GPU
    for library in (*plugins, common):  # each of them reads the variable
        flags = known(flags, library)
    return _with("XLA_FLAGS", flags, environment)


def _library(package: str, name: str) -> pathlib.Path | None:
    """A shared library of an installed package, which is not imported."""
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # of the package around it
        return None
    for place in (found and found.submodule_search_locations) or ():
        if (pathlib.Path(place) / name).is_file():
            return pathlib.Path(place) / name
    return None


def _with(name: str, flags: Sequence[str], environment: Mapping[str, str]) -> str:
    """NAME=FLAGS, those that the variable does not name before what it holds."""
    given = environment.get(name, "")
    named = {word.split("=")[0].lstrip("-") for word in given.split()}
    added = [f"--{flag}=true" for flag in flags if flag not in named]
    return f"{name}={' '.join([*added, *given.split()])}" if added else ""


if __name__ == "__main__":
    print(assignment(os.environ))
