"""Devices to compile for that need not be there: virtual CPUs, and TPU slices through libtpu."""

import dataclasses
import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies

from core.errors import ConfigError

# Memory of a chip, bytes, from the maker's data sheets; XLA keeps a little of it for itself.
# v4 and v5p have two cores a chip, which JAX sees as one device ("megacore").
TPUS = {
    "v4": dict(dims=3, memory=32 * 2**30, options={"chip_config_name": "megacore"}),
    "v5e": dict(dims=2, memory=16 * 2**30, options={}),
    "v5p": dict(dims=3, memory=95 * 2**30, options={}),
    "v6e": dict(dims=2, memory=32 * 2**30, options={}),
}
_ONE_HOST = ((1, 1), (2, 2), (2, 4))  # slices of v5e and v6e whose chips share a host
LIBTPU = "pip install libtpu"
KNOWN = "cpu:N, " + ", ".join(
    f"{name}:{'x'.join('AB' if tpu['dims'] == 2 else 'ABC')}" for name, tpu in TPUS.items()
)


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices to compile for.

    Attributes:
      name: as asked for, or what is here.
      devices: list of JAX devices.
      memory: bytes of one device, None where that is not known.
      hosts: machines that the devices are attached to.
    """

    name: str
    devices: list
    memory: int | None
    hosts: int


def parse(name: str) -> tuple[str, tuple[int, ...]]:
    """("cpu", (8,)) of "cpu:8".

    Raises:
      ConfigError: lists the known forms.
    """
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name)
    kind, sizes = found.groups() if found else ("", "")
    shape = tuple(int(n) for n in sizes.split("x") if n)
    dims = 1 if kind == "cpu" else TPUS.get(kind, {}).get("dims")
    if dims != len(shape) or not all(shape):
        raise ConfigError(
            f"config.dry_run.topology must be one of {KNOWN} (such as cpu:8, v5e:4x4, v5p:2x2x2), "
            f"or empty, the devices that are there; found {name!r}"
        )
    return kind, shape


def prepare(name: str) -> None:
    """Sets JAX up for `find`; before anything else has used it. "": as it is.

    Raises:
      ConfigError: an unknown name, or libtpu is not installed.
    """
    if not name:
        return
    kind, shape = parse(name)
    jax.config.update("jax_platforms", "cpu")  # nothing runs, so no accelerator is taken
    if kind == "cpu":
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
            f"is needed)\n  fix: {LIBTPU}"
        )


def find(name: str) -> Topology:
    """The devices of a topology.

    Raises:
      ConfigError: an unknown name, a shape that its chips do not come in, or too few devices.
    """
    if not name:
        devices = jax.devices()
        stats = devices[0].memory_stats() or {}
        hosts = len({device.process_index for device in devices})
        kind = f"{len(devices)} x {devices[0].device_kind}, here"
        return Topology(kind, devices, stats.get("bytes_limit"), hosts)
    kind, shape = parse(name)
    if kind == "cpu":
        devices = jax.devices("cpu")
        if len(devices) < shape[0]:
            raise ConfigError(
                f"config.dry_run.topology={name}: JAX has started with {len(devices)} CPU devices\n"
                f"  fix: JAX_NUM_CPU_DEVICES={shape[0]} in the environment"
            )
        return Topology(name, devices[: shape[0]], None, 1)
    _need_libtpu(name)
    options = dict(TPUS[kind]["options"])
    if shape in _ONE_HOST:
        options["chips_per_host_bounds"] = (*shape, 1)
    try:
        found = topologies.get_topology_desc(name, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(
            f"config.dry_run.topology={name}: libtpu does not give such a slice: {error}"
        ) from error
    devices = list(found.devices)
    hosts = len({device.process_index for device in devices})
    return Topology(name, devices, TPUS[kind]["memory"], hosts)
