"""ViLBERT (Lu et al., NeurIPS 2019): a text and an image stream joined by co-attention.

Text layers are BERT's, image layers narrower ones over regions; at a connection each stream's
queries read the other's keys and values. Options of 12-in-1 (Lu et al., CVPR 2020): dynamic
attention and task tokens.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from vl_models import embeddings, layers
from vl_models.dropout import Dropout

FUSIONS = {"mul": jnp.multiply, "sum": jnp.add}


def build(
    model,
    *,
    vocab_size: int,
    feature_dim: int,
    text_only: bool,
    masked_regions: bool,
    dtype,
    remat: str = "none",
):
    """The trunk of a config (`config.model`). `feature_dim` is read off the batch.

    Raises:
      ValueError: connections that do not fit the layers, an unknown fusion, or text-only rows.
    """
    del feature_dim, masked_regions  # a masked region is a zero feature
    if text_only:
        raise ValueError("vilbert has no rows without an image: set config.streams.text off")
    check(model)
    common = dict(dropout=model.dropout, init_range=model.init_range, dtype=dtype, remat=remat)
    return ViLBert(
        sizes=layers.LayerSizes(model.hidden, model.heads, model.intermediate, **common),
        region_sizes=layers.LayerSizes(
            model.image.hidden, model.image.heads, model.image.intermediate, **common
        ),
        connect_width=model.connect.hidden,
        connect_heads=model.connect.heads,
        text_layers=model.layers,
        image_layers=model.image.layers,
        text_at=tuple(model.connect.text_at),
        image_at=tuple(model.connect.image_at),
        coattention=model.connect.coattention,
        vocab_size=vocab_size,
        positions=model.positions,
        fusion=model.fusion,
        dynamic_attention=model.dynamic_attention,
        tasks=model.tasks,
        fixed_text_layers=model.fixed_text_layers,
        fixed_image_layers=model.image.fixed_layers,
    )


def check(model) -> None:
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

    def setup(self):
        def attention(sizes):
            sizes = dataclasses.replace(sizes, heads=self.heads)
            return layers.Attention(sizes, inner=self.width)

        self.text_attention = attention(self.sizes)
        self.image_attention = attention(self.image_sizes)
        self.text_mlp = layers.FeedForward(self.sizes)
        self.image_mlp = layers.FeedForward(self.image_sizes)

    def __call__(self, text, image, text_mask, image_mask, *, train: bool):
        """[N, T, D], [N, R, Dv] → the same, and both maps of probabilities (text→image first)."""

        def run(layer, text, image, text_mask, image_mask):
            seen, to_image = layer.text_attention(text, image, image_mask, train=train)
            read, to_text = layer.image_attention(image, text, text_mask, train=train)
            text, image = layer.text_mlp(seen, train=train), layer.image_mlp(read, train=train)
            return text, image, (to_image, to_text)

        run = layers.rematerialised(run, self.sizes.remat)
        return run(self, text, image, text_mask, image_mask)


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

    packs = False  # whether rows are text | regions | [END] without gaps

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

    def setup(self):
        self.embeddings = embeddings.TextEmbedding(
            self.sizes, self.vocab_size, self.positions, tasks=self.tasks
        )
        self.regions = embeddings.LocatedRegions(self.region_sizes)
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
        self, batch, *, train: bool, max_length: int | None = None, pairs=((0, 0),), capture=()
    ):
        """Runs the trunk; texts and images become B·P pairs (N) at the first connection.

        What lies below it runs once a text and once an image, however many pairs share them.

        Args:
          batch: stream batch (see input_pipeline.schema); `task_id` [B] with task tokens.
          train: whether dropout is on.
          max_length: of no use here, text and regions keep their own places.
          pairs: static ((text index, image index), …) of each example.
          capture: "attention", "hidden".

        Returns:
          dict: text [N, T, D] (without the task token, which is `task_token` [N, D]);
          regions [N, R, Dv]; pooled_text, pooled_image, pooled (fused) [N, connect width];
          word_embedding [V, D]; attention: {"text", "image", "connection": tuples}.

        Raises:
          ValueError: unknown capture name.
        """
        del max_length
        layers.check_capture(capture)
        texts, images = zip(*pairs, strict=True)
        entries = batch["text_ids"].shape[1], batch["regions"].shape[1]
        rows = layers.flatten_entries(batch, layers.BY_TEXT)
        if self.tasks and "task_id" not in batch:
            raise ValueError(
                "config.model.tasks > 0 needs `task_id` in the batch; pre-training has none"
            )
        task_id = jnp.repeat(batch["task_id"], entries[0]) if self.tasks else None
        text_mask = rows["text_mask"]
        if self.tasks:
            text_mask = jnp.pad(text_mask, ((0, 0), (1, 0)), constant_values=True)
        text = self.embeddings(rows["text_ids"], rows["segment_ids"], task_id, train=train)
        rows = layers.flatten_entries(batch, layers.BY_IMAGE)
        image_mask = rows["region_mask"]
        image = self.regions(rows, train=train)

        maps = {"text": [], "image": [], "connection": []}
        hidden = {"text": [text], "image": [image]}

        def run_text(text, first, last):
            for i in range(first, last):
                text, probs = self.layer[i](text, text_mask, train=train)
                maps["text"].append(probs)
                hidden["text"].append(text)
                if i + 1 == self.fixed_text_layers:
                    text = jax.lax.stop_gradient(text)
            return text

        def run_image(image, first, last, text):
            for i in range(first, last):
                gate_by = _mean(text, text_mask) if self.dynamic_attention else None
                image, probs = self.image_layer[i](image, image_mask, train=train, gate_by=gate_by)
                maps["image"].append(probs)
                hidden["image"].append(image)
                if i + 1 == self.fixed_image_layers:
                    image = jax.lax.stop_gradient(image)
            return image

        def pick(x, index, which):
            return layers.pick_entries(x, index, entries[which])

        text_done, image_done = 0, 0
        for k, (text_at, image_at) in enumerate(zip(self.text_at, self.image_at, strict=True)):
            text = run_text(text, text_done, text_at)
            if k == 0 and self.dynamic_attention:
                # The gate makes even the first image layers depend on the text.
                text, text_mask = pick(text, texts, 0), pick(text_mask, texts, 0)
                image, image_mask = pick(image, images, 1), pick(image_mask, images, 1)
            image = run_image(image, image_done, image_at, text)
            if k == 0 and not self.dynamic_attention:
                text, text_mask = pick(text, texts, 0), pick(text_mask, texts, 0)
                image, image_mask = pick(image, images, 1), pick(image_mask, images, 1)
            if self.coattention:
                text, image, probs = self.connection[k](
                    text, image, text_mask, image_mask, train=train
                )
                maps["connection"].append(probs)
            text_done, image_done = text_at, image_at
        image = run_image(image, image_done, self.image_layers, text)
        text = run_text(text, text_done, self.text_layers)

        pooled_text, pooled_image = self.text_pooler(text), self.image_pooler(image)
        fused = FUSIONS[self.fusion](pooled_text, pooled_image)
        out = dict(
            text=text,
            regions=image,
            pooled_text=pooled_text,
            pooled_image=pooled_image,
            pooled=self.fused_dropout(fused, train=train),
            word_embedding=self.embeddings.word.embedding,
        )
        if self.tasks:
            out["task_token"] = text[:, 1]
            out["text"] = jnp.concatenate([text[:, :1], text[:, 2:]], axis=1)
        if "attention" in capture:
            out["attention"] = {name: tuple(probs) for name, probs in maps.items()}
        if "hidden" in capture:
            out["hidden"] = {name: tuple(states) for name, states in hidden.items()}
        return out


def _mean(x, mask):
    """Mean over real positions: [N, T, D], bool [N, T] → [N, D]."""
    weights = mask.astype(x.dtype)[..., None]
    return (x * weights).sum(1) / weights.sum(1)
