"""ViLBERT (Lu et al., NeurIPS 2019): a text and an image stream joined by co-attention.

Text layers are BERT's, image layers narrower ones over regions; at a connection each stream's
queries read the other's keys and values. Options of 12-in-1 (Lu et al., CVPR 2020): dynamic
attention and task tokens.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from core.checks import each, flag, one_of, whole
from vl_models import embeddings, layers
from vl_models.dropout import Dropout
from vl_models.trunk import TrunkSpec, check_capture

POOLED = ("pooled_text", "pooled_image", "pooled", "word_embedding")
FUSIONS = {"mul": jnp.multiply, "sum": jnp.add}
CHECKS = {
    "image.hidden": whole(1),
    "image.heads": whole(1),
    "image.intermediate": whole(1),
    "image.layers": whole(1),
    "image.fixed_layers": whole(0),
    "connect.hidden": whole(1),
    "connect.heads": whole(1),
    "connect.text_at": each(whole(0), ascending=True),
    "connect.image_at": each(whole(0), ascending=True),
    "connect.coattention": flag(),
    "fusion": one_of(*sorted(FUSIONS)),
    "dynamic_attention": flag(),
    "tasks": whole(0),
    "fixed_text_layers": whole(0),
    **{f"geometry.{name}": embeddings.GEOMETRY[name] for name in ("offset", "scale")},
}

# Fields that configs of earlier versions lack, as these had them: the published values.
LATER = dict(geometry=dict(offset=(0.0, 0.0), scale=(1.0, 1.0)))


def build(model: ConfigDict, spec: TrunkSpec) -> "ViLBert":
    """The trunk of a config (`config.model`). A masked region is a zero feature.

    Raises:
      ValueError: connections that do not fit the layers, an unknown fusion, or text-only rows.
    """
    if spec.text_only:
        raise ValueError("vilbert has no rows without an image: set config.streams.text off")
    check(model)
    return ViLBert(
        sizes=spec.layer_sizes(model, model),
        region_sizes=spec.layer_sizes(model.image, model),
        connect_width=model.connect.hidden,
        connect_heads=model.connect.heads,
        text_layers=model.layers,
        image_layers=model.image.layers,
        text_at=tuple(model.connect.text_at),
        image_at=tuple(model.connect.image_at),
        coattention=model.connect.coattention,
        vocab_size=spec.vocab_size,
        positions=model.positions,
        fusion=model.fusion,
        dynamic_attention=model.dynamic_attention,
        tasks=model.tasks,
        fixed_text_layers=model.fixed_text_layers,
        fixed_image_layers=model.image.fixed_layers,
        geometry=embeddings.Geometry.of(model.geometry),
    )


def check(model: ConfigDict) -> None:
    """Raises ValueError where the schedule of connections does not fit the streams."""
    text_at, image_at = tuple(model.connect.text_at), tuple(model.connect.image_at)
    if model.fusion not in FUSIONS:
        raise ValueError(f"fusion must be one of {sorted(FUSIONS)}, found {model.fusion!r}")
    for name, at, count, fixed in (
        ("text_at", text_at, model.layers, model.fixed_text_layers),
        ("image_at", image_at, model.image.layers, model.image.fixed_layers),
    ):
        if not at or list(at) != sorted(set(at)) or not 0 <= at[0] <= at[-1] < count:
            raise ValueError(
                f"config.model.connect.{name} must rise within 0 … {count - 1}, found {at}"
            )
        if fixed > at[0]:
            raise ValueError(
                f"{fixed} fixed layers reach past the first connection, connect.{name}[0] = {at[0]}"
            )
    if len(text_at) != len(image_at):
        raise ValueError(f"connect.text_at and image_at differ in length: {text_at}, {image_at}")


class Connection(nn.Module):
    """Co-attention: each stream attends to the other, then its own feed-forward (§3.1)."""

    sizes: layers.LayerSizes
    image_sizes: layers.LayerSizes
    width: int
    heads: int

    def setup(self) -> None:
        def attention(sizes: layers.LayerSizes) -> layers.Attention:
            sizes = dataclasses.replace(sizes, heads=self.heads)
            return layers.Attention(sizes, inner=self.width)

        self.text_attention = attention(self.sizes)
        self.image_attention = attention(self.image_sizes)
        self.text_mlp = layers.FeedForward(self.sizes)
        self.image_mlp = layers.FeedForward(self.image_sizes)

    def __call__(
        self,
        text: Float[Array, "N T D"],
        image: Float[Array, "N R Dv"],
        text_mask: Bool[Array, "N T"],
        image_mask: Bool[Array, "N R"],
        *,
        train: bool,
    ) -> tuple[
        Float[Array, "N T D"],
        Float[Array, "N R Dv"],
        tuple[Float[Array, "N heads T R"], Float[Array, "N heads R T"]],
    ]:
        """Both streams' states, and both maps of probabilities (text → image first)."""

        def run(
            layer: "Connection", text: Array, image: Array, text_mask: Array, image_mask: Array
        ) -> tuple[Array, Array, tuple[Array, Array]]:
            seen, to_image = layer.text_attention(text, image, image_mask, train=train)
            read, to_text = layer.image_attention(image, text, text_mask, train=train)
            text, image = layer.text_mlp(seen, train=train), layer.image_mlp(read, train=train)
            return text, image, (to_image, to_text)

        run = layers.rematerialised(run, self.sizes.remat)
        return run(self, text, image, text_mask, image_mask)


@dataclasses.dataclass
class _Stream:
    """One stream of a trunk on its way up, and what can be captured of it.

    Attributes:
      stack: all its layers, first to last.
      fixed: how many of the first ones do not train.
      entries: texts (K) or images (M) of an example.
      states: [B·entries, L, D], after `repeat` [B·P, L, D].
      mask: True at real positions, like the states without D.
      attention: probabilities per layer, [N, heads, L, L].
      hidden: input and output states of the layers that have run.
    """

    stack: Sequence[layers.Layer]
    fixed: int
    entries: int
    states: Array
    mask: Array
    attention: list[Array] = dataclasses.field(default_factory=list)
    hidden: list[Array] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.hidden = [self.states]

    def run_to(
        self,
        stop: int,
        *,
        train: bool,
        gate: "_Stream | None" = None,
        first_only: bool = False,
    ) -> None:
        """Runs the layers from where the stream is to before layer `stop`.

        Args:
          stop: number of a layer.
          train: whether dropout is on.
          gate: the stream whose mean state gates the attention, one row per row of this one.
          first_only: of the layer before `stop`, only the first position's state is wanted.
        """
        for number in range(len(self.attention), stop):
            gate_by = _mean(gate.states, gate.mask) if gate else None
            self.states, probs = self.stack[number](
                self.states,
                self.mask,
                train=train,
                gate_by=gate_by,
                first_only=first_only and number == stop - 1,
            )
            self.attention.append(probs)
            self.hidden.append(self.states)
            if number + 1 == self.fixed:
                self.states = jax.lax.stop_gradient(self.states)

    def repeat(self, index: Sequence[int]) -> None:
        """From one row per text or image to one per pair: entry index[p] of each example."""
        self.states = layers.pick_entries(self.states, index, self.entries)
        self.mask = layers.pick_entries(self.mask, index, self.entries)


class ViLBert(nn.Module):
    """The trunk. See `build`; fills text, regions, pooled, pooled_text, pooled_image."""

    sizes: layers.LayerSizes
    region_sizes: layers.LayerSizes
    connect_width: int
    connect_heads: int
    text_layers: int
    image_layers: int
    text_at: tuple[int, ...]
    image_at: tuple[int, ...]
    coattention: bool
    vocab_size: int
    positions: int
    fusion: str
    dynamic_attention: bool
    tasks: int
    fixed_text_layers: int
    fixed_image_layers: int
    geometry: embeddings.Geometry = embeddings.VILBERT

    packs = False  # whether rows are text | regions | [END] without gaps
    grounds_words = False
    image_margin = 0  # the box of the whole image is (0, 0, width, height)

    @property
    def pooled_width(self) -> int:
        """Width of the pooled state."""
        return self.connect_width

    @property
    def fixed(self) -> tuple[str, ...]:
        """Regexes of the parameters below the fixed layers, which must not decay either.

        The word table is not among them: the masked-language head trains it.
        """
        out = [rf"trunk/layer_{i}/.*" for i in range(self.fixed_text_layers)]
        out += [rf"trunk/image_layer_{i}/.*" for i in range(self.fixed_image_layers)]
        if self.fixed_text_layers:
            out.append(r"trunk/embeddings/(?!word/).*")
        if self.fixed_image_layers:
            out.append(r"trunk/regions/.*")
        return tuple(out)

    def setup(self) -> None:
        self.embeddings = embeddings.TextEmbedding(
            self.sizes, self.vocab_size, self.positions, tasks=self.tasks
        )
        self.regions = embeddings.LocatedRegions(self.region_sizes, geometry=self.geometry)
        self.layer = [layers.Layer(self.sizes) for _ in range(self.text_layers)]
        self.image_layer = [layers.Layer(self.region_sizes) for _ in range(self.image_layers)]
        if self.coattention:
            self.connection = [
                Connection(self.sizes, self.region_sizes, self.connect_width, self.connect_heads)
                for _ in self.text_at
            ]
        self.text_pooler = layers.Pooler(self.sizes, self.connect_width, nn.relu)
        self.image_pooler = layers.Pooler(self.region_sizes, self.connect_width, nn.relu)
        self.fused_dropout = Dropout(self.sizes.dropout)

    def __call__(
        self,
        batch: Mapping[str, Array],
        *,
        train: bool,
        max_length: int | None = None,
        pairs: layers.Pairs = layers.FIRST_PAIR,
        capture: Collection[str] = (),
        pooled_only: bool = False,
    ) -> dict[str, Any]:
        """Runs the trunk; texts and images become B·P pairs (N) at the first connection.

        What lies below it runs once per text and once per image, however many pairs share them.

        Args:
          batch: stream batch (see input_pipeline.schema); `task_id` [B] with task tokens.
          train: whether dropout is on.
          max_length: of no use here, text and regions keep their own places.
          pairs: static ((text index, image index), …) of each example.
          capture: "attention", "hidden".
          pooled_only: only the pooled states are wanted: the last layer of each stream then
            leaves all but the first position out, and there is no text, regions or task_token.

        Returns:
          dict: text [N, T, D] (without the task token, which is `task_token` [N, D]);
          regions [N, R, Dv]; lower_text, lower_regions: the same below the first connection;
          pooled_text, pooled_image, pooled (fused) [N, connect width];
          word_embedding [V, D]; attention: {"text", "image", "connection": tuples}.

        Raises:
          ValueError: unknown capture name, or no `task_id` where there are task tokens.
        """
        del max_length
        check_capture(capture)
        texts, images = zip(*pairs, strict=True)
        text, image = self._embed_text(batch, train), self._embed_regions(batch, train)
        gate = text if self.dynamic_attention else None
        connection = []

        meets = self.coattention or gate is not None  # else a text is the same with any image
        if meets:
            text.run_to(self.text_at[0], train=train)
            if not gate:  # which makes even the first image layers depend on the text
                image.run_to(self.image_at[0], train=train)
            text.repeat(texts)
            image.repeat(images)
        for k, (text_at, image_at) in enumerate(zip(self.text_at, self.image_at, strict=True)):
            text.run_to(text_at, train=train)
            image.run_to(image_at, train=train, gate=gate)
            if k == 0:
                lower = dict(lower_text=text.states, lower_regions=image.states)
            if self.coattention:
                text.states, image.states, probs = self.connection[k](
                    text.states, image.states, text.mask, image.mask, train=train
                )
                connection.append(probs)
        image.run_to(self.image_layers, train=train, gate=gate, first_only=pooled_only)
        text.run_to(self.text_layers, train=train, first_only=pooled_only)
        if not meets:
            text.repeat(texts)
            image.repeat(images)
            lower = dict(
                lower_text=layers.pick_entries(lower["lower_text"], texts, text.entries),
                lower_regions=layers.pick_entries(lower["lower_regions"], images, image.entries),
            )

        seen = dict(
            attention=dict(
                text=tuple(text.attention),
                image=tuple(image.attention),
                connection=tuple(connection),
            ),
            hidden=dict(text=tuple(text.hidden), image=tuple(image.hidden)),
        )
        out = self._outputs(text.states, image.states, train) | lower
        if pooled_only:
            out = {name: out[name] for name in POOLED}
        elif self.tasks:
            out["task_token"] = text.states[:, 1]
            for name in ("text", "lower_text"):
                out[name] = jnp.concatenate([out[name][:, :1], out[name][:, 2:]], axis=1)
        return out | {name: seen[name] for name in capture}

    def _embed_text(self, batch: Mapping[str, Array], train: bool) -> _Stream:
        """The text stream below its first layer, one row per text, task token included."""
        entries = batch["text_ids"].shape[1]
        rows = layers.flatten_entries(batch, layers.BY_TEXT)
        mask, task_id = rows["text_mask"], None
        if self.tasks:
            if "task_id" not in batch:
                raise ValueError(
                    "config.model.tasks > 0 needs `task_id` in the batch; pre-training has none"
                )
            task_id = jnp.repeat(batch["task_id"], entries)
            mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        states = self.embeddings(rows["text_ids"], rows["segment_ids"], task_id, train=train)
        return _Stream(self.layer, self.fixed_text_layers, entries, states, mask)

    def _embed_regions(self, batch: Mapping[str, Array], train: bool) -> _Stream:
        """The image stream below its first layer, one row per image."""
        rows = layers.flatten_entries(batch, layers.BY_IMAGE)
        states = self.regions(rows, train=train)
        entries = batch["regions"].shape[1]
        return _Stream(
            self.image_layer, self.fixed_image_layers, entries, states, rows["region_mask"]
        )

    def _outputs(
        self, text: Float[Array, "N L D"], image: Float[Array, "N R Dv"], train: bool
    ) -> dict[str, Array]:
        """What `__call__` returns of both streams' last states, the task token among the text."""
        pooled_text, pooled_image = self.text_pooler(text), self.image_pooler(image)
        fused = FUSIONS[self.fusion](pooled_text, pooled_image)
        return dict(
            text=text,
            regions=image,
            pooled_text=pooled_text,
            pooled_image=pooled_image,
            pooled=self.fused_dropout(fused, train=train),
            word_embedding=self.embeddings.word.embedding,
        )


def _mean(x: Float[Array, "N T D"], mask: Bool[Array, "N T"]) -> Float[Array, "N D"]:
    """Mean over real positions."""
    weights = mask.astype(x.dtype)[..., None]
    return (x * weights).sum(1) / weights.sum(1)
