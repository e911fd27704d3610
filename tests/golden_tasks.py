"""VL-BERT's published task models, as a user would configure them, and what they are held to."""

import dataclasses
import types

import golden_files
import jax
import jax.numpy as jnp
import numpy as np

from configs import common, models
from input_pipeline.schema import SpecialIds
from objectives import base
from objectives.model import MultiTaskModel
from vl_models import loading
from vl_models.published import translate, vision
from vl_models.vision import resnet

STREAM = "examples"


def task_of(golden, blocks: dict, *, pooler: bool = False, num_answers: int = 0) -> MultiTaskModel:
    """A golden file's model with the objectives of `blocks`, on one stream."""
    meta = golden.meta
    stream = common.stream_block(tuple(blocks), batch_size=4)
    stream.update(max_text=24, max_regions=24, max_length=48)
    config = common.experiment(
        models.block("vlbert", "base", pooler=pooler), "jsonl", {STREAM: stream}, blocks, {}
    )
    config.dtype = "float32"
    config.model.update(
        hidden=meta["hidden_size"],
        layers=meta["num_hidden_layers"],
        heads=meta["num_attention_heads"],
        intermediate=meta["intermediate_size"],
        positions=meta["max_position_embeddings"],
    )
    see(config, meta)
    feature_dim = max(1, golden["in/boxes"].shape[-1] - 4)
    spec = types.SimpleNamespace(feature_dim=feature_dim, num_classes=0, global_feature="mean")
    lists = base.OutputLists(answers=tuple(map(str, range(num_answers))))
    return MultiTaskModel(config, special_of(golden), spec, {STREAM: lists})


def see(config, meta: dict) -> None:
    """Has the model of a golden file's `meta` look at pictures, where the file's does."""
    if "image_layers" not in meta:
        return
    config.model.features = "pixels"
    config.model.vision.update(
        blocks=resnet.BLOCKS[meta["image_layers"]],
        stride_in_1x1=meta["stride_in_1x1"],
        dilated=meta["c5_dilated"],
        frozen_stages=max(meta["frozen_stages"]),
        frozen_norm=meta["frozen_batch_norm"],
    )


def special_of(golden) -> SpecialIds:
    """Special tokens of a golden file."""
    meta = golden.meta
    return SpecialIds(
        0, 1, meta["cls_id"], meta["sep_id"], meta.get("mask_id", 103), meta["vocab_size"]
    )


def image_arrays(golden, padding: float) -> dict:
    """The image keys of a stream batch; padded regions have `padding` in every column."""
    boxes = golden["in/boxes"]
    appearance = dict(regions=jnp.asarray(boxes[:, None, :, 4:]))
    if "in/image" in golden:
        appearance = dict(images=jnp.asarray(golden["in/image"].transpose(0, 2, 3, 1)[:, None]))
    if "in/masks" in golden:
        mask = np.where(boxes[..., 3:4, None] != padding, golden["in/masks"], 0)
        appearance["region_instance_mask"] = jnp.asarray(mask[:, None], bool)
    return appearance | dict(
        boxes=jnp.asarray(boxes[:, None, :, :4]),
        image_size=jnp.asarray(golden["in/im_info"][:, None, 1::-1]),
        region_mask=jnp.asarray(boxes[:, None, :, 3] != padding),
        _weight=jnp.ones(len(boxes)),
    )


class Texts:
    """Stands for a text table; each text is a list of ids, or of (id, region it mentions)."""

    def __init__(self, texts):
        self.texts = [np.asarray(text, np.int32) for text in texts]

    def gather(self, rows, width):
        shape = (len(rows), width)
        out = dict(ids=np.zeros(shape, np.int32), lengths=np.zeros(len(rows), np.int32))
        if self.texts[0].ndim == 2:
            out["token_region"] = np.zeros(shape, np.int32)
        for i, row in enumerate(rows):
            text = self.texts[row][:width]
            out["lengths"][i] = len(text)
            out["ids"][i, : len(text)] = text if text.ndim == 1 else text[:, 0]
            if text.ndim == 2:
                out["token_region"][i, : len(text)] = text[:, 1]
        return out | dict(word_starts=out["ids"] > 0)

    def values_of(self, rows):
        return {}

    def longest(self, rows):
        return max(len(self.texts[row]) for row in rows)

    def followers(self, rows):
        """As many for each of the questions, which are all of the table's."""
        return np.full(len(rows), len(self.texts) // len(rows) - 1)

    def text_id(self, row):
        return f"text {row}"


def check_gradients(golden, kind, task, params, grads, again) -> None:
    """Holds gradients to a golden file; where they are of convolutions, in float64 if need be.

    A unit whose input is zero but for rounding is on or off by chance, and so is what it passes
    back: of some hundred layers of rectified units, float32 leaves a thousandth of a gradient open.

    Args:
      golden, kind, task, params: see `check_published`.
      grads: of all parameters, float32.
      again: again(params) → the same of these.
    """

    def published(grads):
        flat = {k: np.asarray(v) for k, v in loading.flatten(grads).items()}
        return translate.to_torch(kind, flat)

    if getattr(task.trunk, "vision_sizes", None) is None:
        return golden.check_gradients(published(grads))
    golden.check_gradients(published(grads), within=2e-2)
    try:
        golden.check_gradients(published(grads))
    except AssertionError:
        single, sizes = task.trunk, task.trunk.vision_sizes
        with jax.enable_x64(True):
            double = dataclasses.replace(sizes, dtype=jnp.float64)
            task.trunk = single.clone(vision_sizes=double)
            grads = again(jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params))
        task.trunk = single
        golden.check_gradients(published(grads))


def check_published(golden, kind: str, task: MultiTaskModel, batch: dict) -> tuple[dict, dict]:
    """Holds total loss and gradients to the file, and the name table to a round trip.

    Returns:
      {objective: logits} and {objective: loss}.
    """
    batch = jax.tree.map(jnp.asarray, batch)
    state = golden.state_dict(dict(translate.ALIASES[kind]))
    shapes = jax.eval_shape(lambda: task.init(jax.random.key(0), {STREAM: batch}))
    params = golden_files.fitted(shapes, translate.translate(kind, state).arrays)
    batch = task.corrupt(STREAM, batch, jax.random.split(jax.random.key(0), len(batch["_weight"])))

    def loss_fn(params):
        outputs, logits, sums = task.outputs(params, STREAM, batch), {}, {}
        for one in task.streams[STREAM]:
            logits[one.name] = one.logits(task.head(params, one.head_name), outputs, batch)
            sums[f"{STREAM}/{one.name}"] = one.loss(logits[one.name], batch)
        if "region_features" in outputs:
            logits["region_features"] = outputs["region_features"]
        weights = task.weights(STREAM, batch)
        means = {one.name: sums[f"{STREAM}/{one.name}"] / weights[f"{STREAM}/{one.name}"]
                 for one in task.streams[STREAM]}  # fmt: skip
        return task.total(sums, weights), (logits, means)

    def run(params):
        return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)

    (loss, (logits, means)), grads = run(params)
    golden.check_loss("loss", loss)
    check_gradients(golden, kind, task, params, grads, lambda params: run(params)[1])
    back = translate.to_torch(kind, translate.translate(kind, state).arrays)
    back = {name: value for name, value in back.items() if not name.endswith(vision.COUNTER)}
    assert sorted(back) == sorted(state)
    assert all(np.array_equal(back[name], value) for name, value in state.items())
    return logits, means
