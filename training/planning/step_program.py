"""The train step compiled for devices that need not be there, and the memory it takes."""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from objectives.model import MultiTaskModel
from training.state import StateMaker
from training.step import Turn, make_train_step

_NO_MACHINE_CODE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
# How XLA refuses to compile for a TPU what does not fit it.
_DOES_NOT_FIT = re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm")


def compile_step(
    config: ConfigDict,
    model: MultiTaskModel,
    maker: StateMaker,
    mesh: jax.sharding.Mesh,
    batch: PyTree,
    *,
    alone: bool = False,
    options: Mapping[str, bool | int] | None = None,
) -> tuple[jax.stages.Compiled | None, int | None]:
    """Compiles an update of the train step.

    Args:
      config: of the run.
      model: what is trained.
      maker: of its state's shapes and shardings.
      mesh: of the devices to compile for.
      batch: {stream: {key: shape with its sharding}} of a global batch.
      alone: whether it is of one stream by itself, one of several of a step.
      options: of XLA.

    Returns:
      (the compiled step, None), or (None, bytes it would use) where XLA refuses its size.
    """
    train_step = make_train_step(
        model,
        maker.optimizer,
        mesh,
        jax.tree.map(lambda x: x.sharding, maker.state),
        seed=config.seed,
        accumulate=config.optimizer.accumulate,
        reduce_dtype=config.reduce_dtype,
        unused_heads=config.stream_schedule.unused_heads,
    )
    number = jax.ShapeDtypeStruct((), np.int32)
    turn = (Turn(number, number),) if alone else ()
    lowered = train_step.lower(maker.state, batch, dict.fromkeys(batch, number), *turn)
    # For CPUs the machine code, which nobody will run, takes most of the time.
    cpu = mesh.devices.ravel()[0].platform == "cpu"
    try:
        return lowered.compile(compiler_options=_NO_MACHINE_CODE if cpu else options), None
    except jax.errors.JaxRuntimeError as error:
        found = _DOES_NOT_FIT.search(str(error))
        if not found:
            raise
        return None, round(float(found[1]) * 1024 ** " KMGT".index(found[2] or " "))


def text_of(compiled: jax.stages.Compiled) -> tuple[str | None, str]:
    """(optimized HLO of a program, ""), or (None, why it cannot be had).

    A compiler of another version than jaxlib's may write programs that this one cannot read.
    """
    try:
        return compiled.as_text(), ""
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        return None, f"jaxlib cannot read the compiled program: {str(error).splitlines()[0]}"


def traffic_of(compiled: jax.stages.Compiled) -> int:
    """Bytes that one device reads and writes at least in a run of a program.

    State and batch are read once, the new state is written once, temporaries are written and read
    once. XLA's own count of "bytes accessed" is no bound: it has what stays on the chip, whole
    tables of which rows are taken, and one round of each loop.
    """
    found = compiled.memory_analysis()
    inout = found.argument_size_in_bytes + found.output_size_in_bytes
    return inout + 2 * found.temp_size_in_bytes


def bytes_of(tree: PyTree) -> int:
    """Bytes of arrays or placed shapes on one device."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def memory_of(
    compiled: jax.stages.Compiled | None,
    refused: int | None,
    maker: StateMaker,
    batch: PyTree,
    available: int | None,
) -> dict[str, Any]:
    """Memory of one device.

    Args:
      compiled: see `compile_step`.
      refused: bytes that XLA refused to compile for.
      maker: of the state.
      batch: as it was compiled for.
      available: bytes of a device, None where that is not known.

    Returns:
      JSON values: bytes of "parameters", "optimizer_state", "batch", "temporaries", "program",
      their "total", what is "available", and whether it "fits"; None for what is not known.
    """
    memory: dict[str, Any] = dict(
        parameters=bytes_of(maker.state.params),
        optimizer_state=bytes_of(maker.state.opt_state),
        batch=bytes_of(batch),
        temporaries=None,
        program=None,
        total=refused,
        available=available,
        fits=None,
    )
    if compiled is not None:
        found = compiled.memory_analysis()
        memory["temporaries"] = found.temp_size_in_bytes
        memory["program"] = found.generated_code_size_in_bytes
        # XLA does not count arguments that the step never reads, such as parameters of a layer
        # without gradient, but they are held. The new state takes the old one's place (donated);
        # other outputs come beside it.
        held = memory["parameters"] + memory["optimizer_state"] + memory["batch"]
        memory["total"] = (
            max(held, found.argument_size_in_bytes)
            + found.output_size_in_bytes
            - found.alias_size_in_bytes
            + memory["temporaries"]
            + memory["program"]
        )
    if refused is not None:
        memory["fits"] = False
    elif available is not None:
        memory["fits"] = memory["total"] <= available
    return memory
