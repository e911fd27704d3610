"""Devices to compile for that need not be there: virtual CPUs, TPU slices, GPUs by data sheet."""

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
import re
from collections.abc import Mapping

import jax
from jax.experimental import topologies

from core.errors import ConfigError
from runtime import data_sheets
from runtime.data_sheets import DataSheet
from training.planning import cuda_targets

# Axes of a slice, and what libtpu is told of its chips. v4 and v5p have two cores a chip, which
# JAX sees as one device ("megacore").
_SLICES = {
    "v4": dict(dims=3, options=dict(chip_config_name="megacore")),
    "v5e": dict(dims=2, options={}),
    "v5p": dict(dims=3, options={}),
    "v6e": dict(dims=2, options={}),
}
_ONE_HOST = ((1, 1), (2, 2), (2, 4))  # slices of v5e and v6e whose chips share a host
# A later one than jax names compiles, but for some slices gives programs that jaxlib cannot read.
LIBTPU = next(
    line.partition(";")[0].strip()
    for line in importlib.metadata.requires("jax") or ["libtpu"]
    if line.startswith("libtpu")
)
INSTALL_LIBTPU = f'pip install "{LIBTPU}"'
# Without a GPU XLA cannot try which kernels are fast, and takes some that it then cannot tile:
# products go to cuBLAS.
_NO_TUNING = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}
CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
KNOWN = ", ".join(
    ["cpu:N"]
    + [f"{name}:{'x'.join('ABC'[: one['dims']])}" for name, one in _SLICES.items()]
    + [f"{name}:N" for name in data_sheets.GPUS]
)
# JAX takes this share of a GPU's memory, unless a variable says otherwise.
_USUAL_SHARE = 0.75
_MEMORY_SHARES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices to compile for.

    Attributes:
      name: as asked for, or what is here.
      devices: list of JAX devices.
      memory: bytes that a program has on one device, None where that is not known.
      hosts: machines that the devices are attached to.
      kind: what the devices are called.
      sheet: of the devices, None where there is none.
      options: of XLA, to compile for them.
    """

    name: str
    devices: list
    memory: int | None
    hosts: int
    kind: str
    sheet: DataSheet | None
    options: Mapping[str, bool | int] = dataclasses.field(default_factory=dict)


def parse(name: str) -> tuple[str, tuple[int, ...]]:
    """("cpu", (8,)) of "cpu:8".

    Raises:
      ConfigError: lists the known forms.
    """
    found = re.fullmatch(r"([\w-]+):(\d+(?:x\d+)*)", name)
    kind, sizes = found.groups() if found else ("", "")
    shape = tuple(int(n) for n in sizes.split("x") if n)
    listed = kind == "cpu" or kind in data_sheets.GPUS
    dims = 1 if listed else _SLICES.get(kind, {}).get("dims")
    if dims != len(shape) or not all(shape):
        raise ConfigError(
            f"config.dry_run.topology must be one of {KNOWN} (such as cpu:8, v5e:4x4, v5p:2x2x2, "
            f"h100:8), or empty, the devices that are there; found {name!r}"
        )
    if kind in data_sheets.GPUS:
        island = data_sheets.GPUS[kind].island
        if shape[0] > island and shape[0] % island:
            raise ConfigError(
                "a number of GPUs that does not fill its machines",
                where="config.dry_run.topology",
                expected=f"at most {island}, or a multiple of {island}",
                found=repr(name),
                fix=f"--config.dry_run.topology={kind}:{-(-shape[0] // island) * island}",
            )
    return kind, shape


def is_slice(name: str) -> bool:
    """Whether a topology is one that libtpu compiles for."""
    return name.partition(":")[0] in _SLICES


def prepare(name: str) -> None:
    """Sets JAX up for `find`; before anything else has used it. "": as it is.

    Raises:
      ConfigError: an unknown name, or libtpu is not installed.
    """
    if not name:
        return
    kind, shape = parse(name)
    jax.config.update("jax_platforms", "cpu")  # nothing runs, so no accelerator is taken
    if kind not in _SLICES:
        jax.config.update("jax_num_cpu_devices", shape[0])
        return
    _need_libtpu(name)
    # Else libtpu asks Google Cloud's metadata server, which answers on its machines alone.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no TPU is taken
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", f"{kind}-{math.prod(shape)}")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")


def _need_libtpu(name: str) -> None:
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            f"config.dry_run.topology={name} is compiled by libtpu, which is not installed (no TPU "
            f"is needed)\n  fix: {INSTALL_LIBTPU}"
        )


def find(name: str) -> Topology:
    """The devices of a topology.

    Raises:
      ConfigError: an unknown name, a shape that its chips do not come in, or too few devices.
    """
    if not name:
        return _attached()
    kind, shape = parse(name)
    if kind == "cpu":
        return Topology(name, _virtual(name, shape[0]), None, 1, "cpu", None)
    if kind in data_sheets.GPUS:
        return _gpus(name, kind, shape[0])
    _need_libtpu(name)
    options = dict(_SLICES[kind]["options"])
    if shape in _ONE_HOST:
        options["chips_per_host_bounds"] = (*shape, 1)
    try:
        found = topologies.get_topology_desc(name, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(
            f"config.dry_run.topology={name}: libtpu does not give such a slice: {error}"
        ) from error
    devices, sheet = list(found.devices), data_sheets.TPUS[kind]
    hosts = len({device.process_index for device in devices})
    return Topology(name, devices, sheet.memory, hosts, devices[0].device_kind, sheet)


def _attached() -> Topology:
    """The devices that are there."""
    devices = jax.devices()
    kind = devices[0].device_kind
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    hosts = len({device.process_index for device in devices})
    name = f"{len(devices)} x {kind}, here"
    return Topology(name, devices, limit, hosts, kind, data_sheets.of(kind))


def _gpus(name: str, kind: str, count: int) -> Topology:
    """GPUs by data sheet, compiled for by the CUDA plugin, or as CPUs where it is not installed."""
    sheet = data_sheets.GPUS[kind]
    memory = round(_memory_share() * sheet.memory)
    hosts = -(-count // sheet.island)
    if any(importlib.util.find_spec(plugin) for plugin in CUDA_PLUGINS):
        target, shape = cuda_targets.of(kind, sheet), f"1x{hosts}x{count // hosts}"
        try:
            found = topologies.get_topology_desc(
                name, platform="cuda", target_config=target, topology=shape
            )
        except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
            raise ConfigError(
                f"JAX's CUDA plugin does not compile for these devices: {error}",
                where="config.dry_run.topology",
                found=name,
                fix=f"install the plugin of jax {jax.__version__}, or take it out: pip uninstall "
                + " ".join(CUDA_PLUGINS).replace("_", "-"),
            ) from error
        devices, options = list(found.devices), _NO_TUNING
    else:
        devices, options = _virtual(name, count), {}
    kind = f"{sheet.name} by its data sheet"
    return Topology(name, devices, memory, hosts, kind, sheet, options)


def _virtual(name: str, count: int) -> list:
    """So many CPU devices, which `prepare` has asked for."""
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise ConfigError(
            f"config.dry_run.topology={name}: JAX has started with {len(devices)} CPU devices\n"
            f"  fix: JAX_NUM_CPU_DEVICES={count} in the environment"
        )
    return devices[:count]


def _memory_share() -> float:
    """Share of a GPU's memory that JAX takes.

    Raises:
      ConfigError: a variable that is no share.
    """
    for name in _MEMORY_SHARES:
        given = os.environ.get(name, "")
        if not given:
            continue
        if not re.fullmatch(r"0*\.\d+|1(\.0*)?", given) or not float(given):
            raise ConfigError(
                "no share of a GPU's memory",
                where=f"${name}",
                expected="a number above 0, at most 1",
                found=given,
            )
        return float(given)
    return _USUAL_SHARE
