"""VL-BERT's published task models, as a user would configure them, and what they are held to."""

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
from vl_models.published import translate

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
    feature_dim = golden["in/boxes"].shape[-1] - 4
    spec = types.SimpleNamespace(feature_dim=feature_dim, num_classes=0, global_feature="mean")
    lists = base.OutputLists(answers=tuple(map(str, range(num_answers))))
    return MultiTaskModel(config, special_of(golden), spec, {STREAM: lists})


def special_of(golden) -> SpecialIds:
    """Special tokens of a golden file."""
    meta = golden.meta
    return SpecialIds(
        0, 1, meta["cls_id"], meta["sep_id"], meta.get("mask_id", 103), meta["vocab_size"]
    )


def image_arrays(golden, padding: float) -> dict:
    """The image keys of a stream batch; padded regions have `padding` in every column."""
    boxes = golden["in/boxes"]
    return dict(
        regions=jnp.asarray(boxes[:, None, :, 4:]),
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
        weights = task.weights(STREAM, batch)
        means = {one.name: sums[f"{STREAM}/{one.name}"] / weights[f"{STREAM}/{one.name}"]
                 for one in task.streams[STREAM]}  # fmt: skip
        return task.total(sums, weights), (logits, means)

    (loss, (logits, means)), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)
    golden.check_loss("loss", loss)
    flat = {k: np.asarray(v) for k, v in loading.flatten(grads).items()}
    golden.check_gradients(translate.to_torch(kind, flat))
    back = translate.to_torch(kind, translate.translate(kind, state).arrays)
    assert sorted(back) == sorted(state)
    assert all(np.array_equal(back[name], value) for name, value in state.items())
    return logits, means
