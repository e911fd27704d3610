"""Per-array checksums of a checkpoint, verified when it is read.

The files' own checks find what is missing or cut short, but not a changed byte among the values of
an array. The checksum is Σ word · weight mod 2³² over the array's words, with an odd
hash of the word's position as weight. Integer sums do not depend on order, so an array has the same
checksum on every mesh; and one changed word always changes it. It is computed on the devices, in
one pass.
"""

import functools
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from checkpoints.damage import DamageError
from runtime import paths

_SEAL = "digests"  # of arrays and, under "meta", of the JSON values that they travel with


def of(tree: Any) -> dict[str, int]:
    """{path: digest} of a nested dict or state of arrays; all processes call it together."""
    arrays = paths.flatten(tree)
    meshes = {x.sharding.mesh for x in arrays.values() if _is_placed(x)}
    if meshes:
        (mesh,) = meshes
        found = jax.device_get(_compiled(mesh)(arrays))
    else:  # on the host: one after the other
        found = {path: jax.device_get(_alone(x)) for path, x in arrays.items()}
    return {path: int(value) for path, value in found.items()}


def _is_placed(x: Any) -> bool:
    return isinstance(getattr(x, "sharding", None), jax.sharding.NamedSharding)


@functools.cache
def _compiled(mesh: jax.sharding.Mesh) -> Any:
    """The sums of all arrays as one program, their results on all devices.

    With a program an array, processes on CPUs could come to their exchanges in another order, and
    would wait for each other for ever.
    """
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def sums(arrays: Any) -> Any:
        return {path: _sum(x) for path, x in arrays.items()}

    return jax.jit(sums, out_shardings=whole)


def _sum(x: jax.Array) -> jax.Array:
    words = _words(x)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        stride = jnp.uint32(math.prod(words.shape[axis + 1 :]) % 2**32)
        place += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * stride
    weight = place * jnp.uint32(0x9E3779B1)
    weight = (weight ^ (weight >> 15)) * jnp.uint32(0x85EBCA77)
    weight = weight ^ (weight >> 13) | 1
    return jnp.sum(words * weight, dtype=jnp.uint32)


_alone = jax.jit(_sum)


def _words(x: jax.Array) -> jax.Array:
    """The bits of x as uint32; narrower types give one word per value."""
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    size = min(x.dtype.itemsize, 4)
    return jax.lax.bitcast_convert_type(x, f"uint{8 * size}").astype(jnp.uint32)


def of_json(values: Mapping) -> int:
    """The same for JSON values."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def seal(meta: Mapping, found: Mapping) -> dict:
    """`meta` as JSON values, with the digests {item: {path: digest}} of arrays, and its own."""
    values: dict[str, Any] = json.loads(json.dumps(meta)) | {_SEAL: found}
    return values | {_SEAL: {**found, "meta": of_json(values)}}


def unseal(meta: Any) -> tuple[dict, dict]:
    """(meta, digests of arrays) of what `seal` made; no digests where it was saved without.

    Raises:
      DamageError: its bytes have changed.
    """
    if not isinstance(meta, dict):
        raise DamageError("meta is no JSON object")
    meta = dict(meta)
    found = meta.pop(_SEAL, {})
    if not isinstance(found, dict):
        raise DamageError("the digests in meta are none")
    # A changed byte in their name must not pass for a checkpoint of the time before digests.
    if not found and any(
        isinstance(x, dict) and {"params", "meta"} <= x.keys() for x in meta.values()
    ):
        raise DamageError("the digests in meta have another name than they were saved with")
    found = dict(found)
    if found and found.pop("meta", None) != of_json(meta | {_SEAL: found}):
        raise DamageError("bytes of meta have changed since it was saved")
    return meta, found


def require_unchanged(arrays: Mapping, sums: Mapping) -> None:
    """Compares {item: arrays} with the digests {item: {path: digest}} they were saved with.

    Raises:
      DamageError: some differ; names them.
    """
    changed = []
    for item, saved in sums.items():
        found = of(arrays[item]) if item in arrays else saved
        changed += [f"{item}/{path}" for path in saved if found.get(path) != saved[path]]
    if changed:
        raise DamageError(f"bytes have changed since it was saved: {', '.join(changed)}")
