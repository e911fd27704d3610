"""Where arrays live: a mesh (data, fsdp, tensor), the batch over its first two axes, and rules.

`tensor` splits attention heads, feed-forward widths and the vocabulary within a layer. Devices
along `data` and `fsdp` share a batch: while a step runs each has the parameters of all layers, and
between steps each keeps a part of every matrix and of its moments (ZeRO, Rajbhandari et al. 2020);
with `config.shard_state` off, that is so along `fsdp` alone. Rules read the parameter's path, so
the optimizer's moments, whose paths end in it, follow their parameters.
"""

import collections
import functools
import math
import re
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from core.console import say
from core.errors import ConfigError
from runtime import paths

AXES = ("data", "fsdp", "tensor")
SHARED = ("data", "fsdp")  # axes of devices that share a batch
BATCH = P(SHARED)
_TOLD = 8  # parameters that fall back to replication, by name

# (regex for the end of a path, dimension split over `tensor`). Within a block the first product
# is split by columns and the second by rows, which needs one sum a block (Megatron-LM, 2019).
TENSOR_RULES = (
    (r"([a-z]+_)?attention/(query|key|value)(_gate)?/kernel", 1),
    (r"([a-z]+_)?attention/(query|key|value)(_gate)?/bias", 0),
    (r"([a-z]+_)?attention/output/kernel", 0),
    (r"([a-z]+_)?mlp/intermediate/kernel", 1),
    (r"([a-z]+_)?mlp/intermediate/bias", 0),
    (r"([a-z]+_)?mlp/output/kernel", 0),
    (r"embeddings/word/embedding", 0),
)


def make_mesh(sizes, devices=None) -> jax.sharding.Mesh:
    """The mesh of `config.mesh`.

    Args:
      sizes: {"data", "fsdp", "tensor"}: devices along each axis; one of them may be -1 = the rest.
      devices: which to use; all by default.

    Raises:
      ValueError: unknown axis, more than one -1, or a product other than the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = dict(sizes)
    if set(sizes) != set(AXES):
        raise ConfigError(f"config.mesh must have the axes {AXES}, found {sorted(sizes)}")
    given = math.prod(size for size in sizes.values() if size != -1)
    free = [axis for axis in AXES if sizes[axis] == -1]
    if len(free) > 1 or given < 1 or len(devices) % given or (not free and given != len(devices)):
        raise ConfigError(
            f"config.mesh {sizes} does not cover {len(devices)} devices: the product of its axes "
            "must be their number, and one axis may be -1 (the rest)"
        )
    shape = tuple(len(devices) // given if axis in free else sizes[axis] for axis in AXES)
    # Linen modules need Auto axes; make_mesh would make Explicit ones.
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def check_batch_sizes(sizes, mesh, accumulate: int = 1, where="config.streams") -> None:
    """Every microbatch must fill the devices evenly.

    Args:
      sizes: {name of a block: its global batch_size}; 0 is off.
      mesh: of the devices.
      accumulate: microbatches of a batch.
      where: part of the config that the blocks are in.

    Raises:
      ConfigError: names the block, what its batch must be a multiple of, and a size that fits.
    """
    shards = batch_shards(mesh)
    multiple = shards * accumulate
    for name, size in sizes.items():
        if size % multiple:
            field = f"{where}.{name}.batch_size"
            many = f" x optimizer.accumulate {accumulate}" if accumulate > 1 else ""
            raise ConfigError(
                "a batch cannot be cut evenly over the devices that share it",
                where=field,
                expected=f"a multiple of {multiple} = mesh.data x mesh.fsdp {shards}{many}",
                found=size,
                fix=f"--{field}={-(-size // multiple) * multiple}",
            )


def batch_shards(mesh) -> int:
    """Parts that a batch is cut into: devices along `data` and `fsdp`."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def check_processes(mesh) -> None:
    """Devices that share rows must be of one process.

    Raises:
      ConfigError: `tensor` does not divide the devices of a process.
    """
    counts = collections.Counter(device.process_index for device in mesh.devices.ravel())
    for count in counts.values():
        if count % mesh.shape["tensor"]:
            raise ConfigError(
                f"config.mesh.tensor must divide the {count} devices of a process, found "
                f"{mesh.shape['tensor']}: each process reads rows of its own"
            )


def replicated(mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def over_batch(mesh) -> NamedSharding:
    """Axis 0 over the devices that share a batch."""
    return NamedSharding(mesh, BATCH)


def _over_tensor(path: str, shape: tuple[int, ...], mesh, report: Callable[[str], None]) -> list:
    """The axis that splits each dimension, `tensor` or None."""
    split: list = [None] * len(shape)
    for pattern, axis in TENSOR_RULES:
        if mesh.shape["tensor"] > 1 and re.search(rf"(^|/){pattern}$", path):
            if shape[axis] % mesh.shape["tensor"] == 0:
                split[axis] = "tensor"
            else:
                report(f"{path}: {shape[axis]} does not divide by tensor={mesh.shape['tensor']}")
    return split


def spec_of(
    path: str,
    shape: tuple[int, ...],
    mesh,
    report: Callable[[str], None],
    over: Sequence[str] = SHARED,
) -> P:
    """How one array of the state is split.

    Args:
      path: of a parameter, or of a moment of it.
      shape: of the array.
      mesh: it lies on.
      report: hears of dimensions that do not divide.
      over: those of SHARED that split it.
    """
    split = _over_tensor(path, shape, mesh, report)
    axes = tuple(axis for axis in over if mesh.shape[axis] > 1)
    if not axes or len(shape) < 2:  # vectors are too small to be worth gathering
        return P(*split)
    for chosen in dict.fromkeys((axes, axes[-1:], axes[:1])):
        size = math.prod(mesh.shape[axis] for axis in chosen)
        # The first dimension that divides: a TPU pads the last one to 128.
        for i, length in enumerate(shape):
            if split[i] is None and length % size == 0:
                split[i] = chosen if len(chosen) > 1 else chosen[0]
                return P(*split)
        if chosen == axes:
            report(f"{path}: no dimension of {shape} divides by {'·'.join(axes)}={size}")
    return P(*split)


def of_state(tree, mesh, report: Callable[[str], None] = say, over: Sequence[str] = SHARED):
    """NamedShardings of a whole train state (or any tree of arrays or shapes).

    What falls back to replication is reported once, in one line, by parameter.

    Args:
      tree: of the state.
      mesh: it lies on.
      report: hears that line.
      over: those of SHARED that split it.
    """
    fallen = []
    shardings = paths.map_with_path(
        lambda path, x: NamedSharding(mesh, spec_of(path, x.shape, mesh, fallen.append, over)),
        tree,
    )
    fallen = [line for line in fallen if not re.search("(^|/)(mean|square)/", line)]
    if fallen:
        more = f"; and {len(fallen) - _TOLD} more" if len(fallen) > _TOLD else ""
        report("sharding: these stay whole along an axis: " + "; ".join(fallen[:_TOLD]) + more)
    return shardings


def report_heads(model, mesh, report: Callable[[str], None] = say) -> None:
    """Says where `tensor` cuts through attention heads, for which activations are moved around.

    Args:
      model: `config.model`.
    """
    streams = [model, model.get("image", {}), model.get("connect", {})]
    heads = {block["heads"] for block in streams if "heads" in block}
    cut = sorted(count for count in heads if count % mesh.shape["tensor"])
    if cut:
        report(
            f"sharding: {cut} attention heads do not divide by tensor={mesh.shape['tensor']}: "
            "their queries, keys and values are exchanged; a smaller config.mesh.tensor sends less"
        )


def for_use(params, mesh):
    """NamedShardings of parameters as layers read them: split over `tensor` alone."""

    def one(path, x):
        return NamedSharding(mesh, P(*_over_tensor(path, x.shape, mesh, lambda text: None)))

    return paths.map_with_path(one, params)


def gather_once(params, mesh):
    """Parameters placed `for_use`, in their own type, for many programs that only read them.

    Where they lie so already, they are returned as they are. The others move in one program:
    several that run at once may meet in another order on another process, and wait for each other
    without end (CPUs).
    """
    flat, tree = jax.tree.flatten(params)
    places = jax.tree.leaves(for_use(params, mesh))
    moved = [i for i, (x, s) in enumerate(zip(flat, places, strict=True)) if not _lies(x, s)]
    if moved:
        move = _mover(tuple(places[i] for i in moved))
        for i, x in zip(moved, move([flat[i] for i in moved]), strict=True):
            flat[i] = x
    return jax.tree.unflatten(tree, flat)


def _lies(x, place: NamedSharding) -> bool:
    return x.sharding.is_equivalent_to(place, x.ndim)


@functools.lru_cache(maxsize=8)
def _mover(places: tuple[NamedSharding, ...]):
    """A program that gives arrays their places."""
    return jax.jit(lambda arrays: arrays, out_shardings=list(places))


def gathered(tree):
    """A tree of global arrays as host arrays, the rows of all processes; all must call it."""
    if jax.process_count() > 1:
        tree = multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.asarray, tree)


def place(batch, mesh):
    """Host batch → global arrays over ("data", "fsdp"); returns before the copy is done.

    Args:
      batch: {stream: {key: this process's rows [B / processes, …]}}.
    """
    sharding = over_batch(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def shapes_of(batch, mesh):
    """What `place` would give, as `jax.ShapeDtypeStruct`s.

    Args:
      batch: {stream: {key: array or shape, of the whole global batch}}.
    """
    sharding = over_batch(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), batch)


def microbatches(batch, count: int, mesh):
    """[B, …] → [count, B / count, …] on the device, taking every count-th row.

    A strided split leaves each row on the device that holds it.
    """
    sharding = NamedSharding(mesh, P(None, *BATCH))

    def split(x):
        x = x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(x, sharding)

    return jax.tree.map(split, batch)
