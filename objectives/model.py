"""Trunk, heads and the objectives of every stream, as one set of pure functions.

Parameters are {"trunk": …, "heads": {name: …}}; a batch is {stream: arrays}; losses of all
streams add, each with its own weight. Nothing here touches files, devices or TensorFlow.
"""

import functools
import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Key, PyTree
from ml_collections import ConfigDict

import vl_models
from core.errors import ConfigError
from input_pipeline.schema import SpecialIds
from input_pipeline.streams import limits
from objectives import base, instances, losses, masking, shared_heads
from vl_models import loading
from vl_models.heads import HeadSpec

PROGRAMS = 16  # maximum combinations of bucket sizes: each compiles its own program
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class MultiTaskModel:
    """What a config trains.

    Attributes:
      streams: {stream: its objectives in the order of corruption}.
      heads: {name: Linen module}.
      head_specs: {name: how it is built}, which checkpoints save.
      pairs: {stream: ((text, image), ...) of each example that the trunk is run on}.
      loss_scale: {"<stream>/<objective>": factor of its mean in the total loss}.
      dtype: of matrix products.
      fixed: regexes of parameters that the trunk keeps as they are.
      warm_start: {path prefix: prefix of the parameters it starts as a copy of}, where a
        checkpoint has the latter alone.
    """

    def __init__(
        self,
        config: ConfigDict,
        special: SpecialIds,
        spec: instances.FeatureSpec,
        lists: Mapping[str, base.OutputLists] | None = None,
    ):
        """Builds trunk, objectives and heads.

        Args:
          config: the whole config.
          special: `schema.SpecialIds` of the vocabulary.
          spec: feature spec of the region store (feature_dim, num_classes, global_feature).
          lists: {stream: answers and labels of its data set}; streams without any may be absent.

        Raises:
          ConfigError: unknown dtype, objective or trunk, or lengths that do not fit together.
        """
        if config.dtype not in DTYPES:
            raise ConfigError(f"config.dtype must be one of {sorted(DTYPES)}, found {config.dtype}")
        self.dtype = DTYPES[config.dtype]
        self._blocks = {n: s for n, s in config.streams.items() if s.batch_size > 0}
        _check_lengths(config.model, self._blocks, config.stream_schedule.kind == "all")
        self._positions = config.model.positions
        # {stream: {(T, R): max_length}} of its buckets and of itself.
        self._lengths = {
            stream: {(text, regions): both for text, regions, both in limits.sizes(block)}
            for stream, block in self._blocks.items()
        }
        self.streams: dict[str, list[base.Objective]] = {
            stream: instances.of_stream(
                config, stream, special, spec, (lists or {}).get(stream, base.OutputLists())
            )
            for stream in self._blocks
        }
        try:
            self.trunk = vl_models.build_trunk(
                config.model,
                vl_models.TrunkSpec(
                    vocab_size=special.vocab_size,
                    feature_dim=spec.feature_dim,
                    text_only=any(not s.images for s in self._blocks.values()),
                    masked_regions=any(one.hides_regions for one in self.objectives()),
                    dtype=self.dtype,
                    remat=config.remat,
                ),
            )
        except ValueError as error:  # vl_models knows of no configs
            raise ConfigError(str(error)) from error
        self.fixed: tuple[str, ...] = self.trunk.fixed
        self.pairs = {
            stream: instances.pairs_of(stream, found) for stream, found in self.streams.items()
        }
        self.loss_scale: dict[str, float] = {}
        self.head_specs: dict[str, HeadSpec] = {}
        self.warm_start: dict[str, str] = {}
        self._first_with: dict[str, base.Objective] = {}  # of each head
        for stream, found in self.streams.items():
            for objective in found:
                objective.check_stream(stream, self._blocks[stream])
                if not objective.microbatchable and config.optimizer.accumulate > 1:
                    raise ConfigError(
                        f"{objective.name} compares examples of a batch with each other, so "
                        "accumulation would change its loss: set config.optimizer.accumulate=1"
                    )
                self.loss_scale[f"{stream}/{objective.name}"] = objective.block.weight
                self._add_head(objective)
                self.warm_start |= objective.warm_start()
        self.heads = {name: spec.build(self.trunk) for name, spec in self.head_specs.items()}

    def _add_head(self, objective: base.Objective) -> None:
        """Raises ConfigError where two objectives share a head name but not its construction."""
        spec, name = objective.head(self.trunk), objective.head_name
        known = self.head_specs.setdefault(name, spec)
        first = self._first_with.setdefault(name, objective)
        if known != spec:
            raise shared_heads.refused(name, (first, known), (objective, spec))

    def objectives(self) -> list[base.Objective]:
        """Those of all streams."""
        return [objective for found in self.streams.values() for objective in found]

    @property
    def separable(self) -> bool:
        """Whether losses and metrics are sums over examples that know nothing of each other."""
        return all(objective.microbatchable for objective in self.objectives())

    def block(self, stream: str) -> ConfigDict:
        """The stream's part of the config."""
        return self._blocks[stream]

    def heads_of(self, stream: str) -> set[str]:
        """Names of the heads that a stream uses."""
        return {objective.head_name for objective in self.streams[stream]}

    def initial_values(
        self, arrays: base.Arrays, known: base.Arrays
    ) -> dict[str, base.InitialValue]:
        """{path: what it starts as}; see `base.Objective.initial_values`."""
        return {
            path: value
            for objective in self.objectives()
            for path, value in objective.initial_values(arrays, known).items()
        }

    def init(self, rng: Key[Array, ""], batch: Mapping[str, base.Arrays]) -> dict[str, Any]:
        """Initial parameters; only the shapes of `batch` matter."""
        trunk_key, head_key, corrupt_key = jax.random.split(rng, 3)
        flat: dict[
            str, Array
        ] = {}  # a stream touches only the parameters it needs: union over streams

        def init_head(name: str, *inputs: Array) -> Array:
            key = jax.random.fold_in(head_key, zlib.crc32(name.encode()))
            logits, head = self.heads[name].init_with_output(key, *inputs)
            flat.update(loading.flatten({"heads": {name: head["params"]}}))
            return logits

        for stream, found in self.streams.items():
            keys = masking.row_keys(corrupt_key, jnp.arange(batch[stream]["text_ids"].shape[0]))
            arrays = self._with_task(stream, self.corrupt(stream, batch[stream], keys))
            outputs, trunk = self.trunk.init_with_output(
                trunk_key,
                arrays,
                train=False,
                max_length=self._length(stream, arrays),
                pairs=self.pairs[stream],
            )
            flat |= loading.flatten({"trunk": trunk["params"]})
            for objective in found:
                head = functools.partial(init_head, objective.head_name)
                objective.logits(head, outputs, arrays)
        return loading.unflatten(flat)

    def corrupt(self, stream: str, batch: base.Arrays, keys: base.Keys) -> base.Arrays:
        """Swaps, masks and adds targets, on the whole global batch; `keys` key[B]."""
        batch = dequantised(batch)
        for objective in self.streams[stream]:
            batch = objective.corrupt(batch, keys)
        return batch

    def weights(self, stream: str, batch: base.Arrays) -> dict[str, base.Scalar]:
        """{"<stream>/<objective>": denominator of its loss}, from a corrupted global batch."""
        return {f"{stream}/{one.name}": one.weight(batch) for one in self.streams[stream]}

    def outputs(
        self,
        params: PyTree,
        stream: str,
        batch: base.Arrays,
        *,
        train: bool = False,
        dropout_rng: Key[Array, ""] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """The trunk's outputs; `options` go to it: pairs, capture, pooled_only."""
        options.setdefault("pairs", self.pairs[stream])
        rngs = None
        if dropout_rng is not None:
            rngs = {"dropout": jax.random.fold_in(dropout_rng, zlib.crc32(stream.encode()))}
        return self.trunk.apply(
            {"params": params["trunk"]},
            self._with_task(stream, dequantised(batch)),
            train=train,
            max_length=self._length(stream, batch),
            rngs=rngs,
            **options,
        )

    def _with_task(self, stream: str, batch: base.Arrays) -> base.Arrays:
        """The batch with the stream's row of the task table, where the trunk has one.

        A batch that names a row itself keeps it: another task is asked for.
        """
        if not getattr(self.trunk, "tasks", 0) or "task_id" in batch:
            return batch
        task = jnp.full(len(batch["text_ids"]), self._blocks[stream].task, jnp.int32)
        return dict(batch, task_id=task)

    def _length(self, stream: str, batch: base.Arrays) -> int:
        """Most text tokens + regions of a batch's rows, by its T and R."""
        text, regions = limits.shape_of(batch)
        if text + 2 > self._positions:
            raise ConfigError(
                f"stream {stream!r}: texts of {text} pieces need {text + 2} positions, "
                f"config.model.positions is {self._positions}"
            )
        block = self._blocks[stream]
        # An evaluation may have longer texts than the stream (`Stream`).
        longer = max(0, text - block.max_text)
        return self._lengths[stream].get((text, regions), block.max_length + longer)

    def head(
        self,
        params: PyTree,
        name: str,
        *,
        train: bool = False,
        dropout_rng: Key[Array, ""] | None = None,
    ) -> base.Head:
        """The head as a function of arrays."""
        rngs = None
        if dropout_rng is not None:
            rngs = {"dropout": jax.random.fold_in(dropout_rng, zlib.crc32(f"head {name}".encode()))}

        def apply(*inputs: Array) -> Any:
            return self.heads[name].apply(
                {"params": params["heads"][name]}, *inputs, train=train, rngs=rngs
            )

        return apply

    def sums(
        self,
        params: PyTree,
        stream: str,
        batch: base.Arrays,
        *,
        train: bool,
        dropout_rng: Key[Array, ""] | None = None,
    ) -> tuple[dict[str, base.Scalar], dict[str, base.Pair]]:
        """Loss numerators and metrics of a corrupted (micro)batch.

        Returns:
          losses: {"<stream>/<objective>": scalar}; metrics: {"<stream>/<metric>": (sum, weight)}.
        """
        outputs = self.outputs(
            params,
            stream,
            batch,
            train=train,
            dropout_rng=dropout_rng,
            pooled_only=all(objective.pooled_only for objective in self.streams[stream]),
        )
        sums: dict[str, base.Scalar] = {}
        metrics: dict[str, base.Pair] = {}
        for objective in self.streams[stream]:
            head = self.head(params, objective.head_name, train=train, dropout_rng=dropout_rng)
            sums[f"{stream}/{objective.name}"], found = objective.measure(head, outputs, batch)
            metrics |= {f"{stream}/{name}": pair for name, pair in found.items()}
        metrics[f"{stream}/filled"] = self._fill_rate(stream, batch)
        return sums, metrics

    def total(
        self, sums: Mapping[str, base.Scalar], weights: Mapping[str, base.Scalar]
    ) -> base.Scalar:
        """The scalar that is minimised: Σ scale · sum / weight."""
        scaled = (
            self.loss_scale[name] * losses.mean(value, weights[name])
            for name, value in sums.items()
        )
        return sum(scaled, start=jnp.float32(0))

    def _fill_rate(self, stream: str, batch: base.Arrays) -> base.Pair:
        """(non-padding, total) positions of the rows."""
        texts, images = zip(*self.pairs[stream], strict=True)
        text_mask = batch["text_mask"][:, jnp.array(texts)]
        rows, end = text_mask[..., 0].size, int(self.trunk.packs)  # [END] of each row
        real = text_mask.sum() + rows * end
        length = text_mask.shape[-1] + end
        if "region_mask" in batch:
            real += batch["region_mask"][:, jnp.array(images)].sum()
            length += batch["region_mask"].shape[-1]
            if self.trunk.packs:
                length = min(length, self._length(stream, batch) + end)
        return real.astype(jnp.float32), jnp.float32(rows * length)


def dequantised(batch: base.Arrays) -> base.Arrays:
    """The batch with int8 features as float32, `regions · region_scale`; other dtypes unchanged.

    Must run before anything reads features: the host transfers int8, a quarter of float32.
    """
    if "region_scale" not in batch:
        return batch
    batch = dict(batch)
    scale = batch.pop("region_scale")
    return batch | dict(regions=batch["regions"].astype(jnp.float32) * scale[..., None])


def _check_lengths(model: ConfigDict, blocks: Mapping[str, ConfigDict], together: bool) -> None:
    """Rejects lengths that would be truncated silently on the device, and too many buckets.

    Args:
      model: `config.model`.
      blocks: of the streams.
      together: whether one update is of all streams.
    """
    if not blocks:
        raise ConfigError("every stream of config.streams has batch_size 0: nothing to train on")
    for stream, block in blocks.items():
        if block.images and not block.max_text <= block.max_length:
            raise ConfigError(
                f"config.streams.{stream}: max_text {block.max_text} must not exceed "
                f"max_length {block.max_length}"
            )
        # Regions share the position after the text, [END] has the next (VL-BERT).
        if block.max_text + 2 > model.positions:
            raise ConfigError(
                f"config.streams.{stream}: max_text {block.max_text} needs {block.max_text + 2} "
                f"positions, config.model.positions is {model.positions}"
            )
    sizes = [
        (len(block.buckets) + 1) * max(1, len(block.get("canvases", ())))
        for block in blocks.values()
    ]
    programs = math.prod(sizes) if together else max(sizes)
    if programs > PROGRAMS:
        raise ConfigError(
            f"config.streams.*.buckets: a step is compiled for every combination of the streams' "
            f"sizes, {programs} here; there may be {PROGRAMS}: have fewer buckets"
        )
