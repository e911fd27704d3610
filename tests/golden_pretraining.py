"""Pre-training of the golden files: the model as a user would configure it, run on their inputs.

Without pytest, since `benchmarks/accelerator.py` holds devices to the same files.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping

import golden_files
import jax
import jax.numpy as jnp
import numpy as np

from configs import vilbert_pretrain, vlbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from vl_models import loading
from vl_models.published import translate


@dataclasses.dataclass(frozen=True)
class Case:
    """A golden file with the model and the batches that it is compared on.

    Attributes:
      model: "vlbert" or "vilbert".
      golden: the file.
      task: the model with its objectives.
      batch: {stream: corrupted arrays}.
      params: the file's weights, through the converter.
      clean: {stream: arrays} of the same shapes that may still be corrupted; for initialisation.
    """

    model: str
    golden: golden_files.Golden
    task: MultiTaskModel
    batch: Mapping[str, dict]
    params: dict
    clean: Mapping[str, dict]

    def loss(self, params) -> tuple:
        """(total, ({stream/objective: logits}, {stream/objective: mean loss}))."""
        sums, logits, weights = {}, {}, {}
        for stream, arrays in self.batch.items():
            outputs = self.task.outputs(params, stream, arrays)
            for one in self.task.streams[stream]:
                key = f"{stream}/{one.name}"
                logits[key] = one.logits(self.task.head(params, one.head_name), outputs, arrays)
                sums[key] = one.loss(logits[key], arrays)
            weights |= self.task.weights(stream, arrays)
        means = {key: jnp.asarray(value / weights[key]) for key, value in sums.items()}
        return self.task.total(sums, weights), (logits, means)

    def run(self) -> tuple:
        """(total, logits, means, {published name: gradient})."""
        compute = jax.jit(jax.value_and_grad(self.loss, has_aux=True))
        (total, (logits, means)), grads = compute(self.params)
        flat = {path: np.asarray(x) for path, x in loading.flatten(grads).items()}
        return total, logits, means, translate.to_torch(self.model, flat)

    def check(self, run: tuple) -> None:
        """Compares what `run` returns with the file.

        Raises:
          AssertionError: losses, logits or gradients beyond the tolerances.
        """
        total, logits, means, grads = run
        self.golden.check_loss("loss", total)
        for name, found in self.losses(means).items():
            self.golden.check_loss(name, found)
        for name, (expected, found) in self.outputs(logits).items():
            np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-4, err_msg=name)
        self.golden.check_gradients(grads)

    def outputs(self, logits) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """{name of a golden output: (expected, found)}, at the positions that compare."""
        named = _vlbert_outputs if self.model == "vlbert" else _vilbert_outputs
        return named(self, {key: np.asarray(x, np.float32) for key, x in logits.items()})

    def losses(self, means) -> dict[str, jax.Array]:
        """{name of a golden loss: found}."""
        if self.model == "vlbert":
            multi = "text" in self.batch
            found = {"mlm_loss_wvc" if multi else "mlm_loss": means["captions/masked_language"]}
            found["mvrc_loss"] = means["captions/masked_region"]
            if multi:
                found["mlm_loss_aux"] = means["text/masked_language"]
            if self.golden.meta["with_rel_loss"]:
                found["relationship_loss"] = means["captions/alignment"]
            return found
        return dict(
            masked_lm_loss=means["captions/masked_language"][None],
            masked_img_loss=means["captions/masked_region"][None],
            next_sentence_loss=means["captions/alignment"][None],
        )


def case(path, dtype: str = "float32") -> Case:
    """A golden file `vlbert_pretrain*.npz` or `vilbert_pretrain*.npz`.

    Args:
      path: of the file.
      dtype: of matrix products.
    """
    golden = golden_files.Golden(path)
    model = golden.meta["kind"].split("_")[0]
    make: Callable = _vlbert if model == "vlbert" else _vilbert
    return make(golden, dtype)


# ----------------------------------------------------------------------------------------------
# VL-BERT


def _vlbert(golden, dtype: str) -> Case:
    task = vlbert_task(golden.meta, golden["in/boxes"].shape[-1] - 4, dtype)
    ties = dict(translate.ALIASES["vlbert"])
    loaded = translate.translate("vlbert", golden.state_dict(ties)).arrays
    batch = _vlbert_batch(golden)
    clean = _clean(batch, task)
    shapes = jax.eval_shape(lambda: task.init(jax.random.key(0), clean))
    params = golden_files.fitted(shapes, loaded)
    return Case("vlbert", golden, task, batch, params, clean)


def vlbert_task(meta, feature_dim: int, dtype: str = "float32") -> MultiTaskModel:
    """The golden file's model, as a user would configure it."""
    config = vlbert_pretrain.get_config("size=base")
    config.dtype = dtype
    config.model.update(
        hidden=meta["hidden_size"],
        layers=meta["num_hidden_layers"],
        heads=meta["num_attention_heads"],
        intermediate=meta["intermediate_size"],
        positions=meta["max_position_embeddings"],
        pooler=meta["with_pooler"],
    )
    normalize = "per_sample" if meta["loss_norm_in_batch_first"] else "mean"
    config.objectives.masked_language.update(normalize=normalize, cap=1.0)
    config.objectives.masked_region.normalize = normalize
    names = ("alignment",) if meta["with_rel_loss"] else ()
    config.streams.captions.objectives = ("masked_language", "masked_region", *names)
    # The golden rows are short; their own lengths bound them.
    config.streams.captions.update(max_text=24, max_regions=24, max_length=48)
    config.streams.text.max_text = 24
    config.streams.text.batch_size = 1 if meta["kind"].endswith("multitask") else 0
    special = SpecialIds(0, 100, 101, 102, 103, meta["vocab_size"])
    spec = types.SimpleNamespace(
        feature_dim=feature_dim,
        num_classes=meta["visual_region_classes"],
        global_feature="mean",
    )
    return MultiTaskModel(config, special, spec)


def _text_arrays(ids, labels) -> dict:
    """[B, T] ids and labels (−1 = none) → the corrupted text keys of a stream batch."""
    ids, labels = jnp.asarray(ids, jnp.int32), jnp.asarray(labels, jnp.int32)
    size, width = ids.shape
    return dict(
        text_ids=ids[:, None],
        text_mask=(ids > 0)[:, None],
        segment_ids=jnp.zeros_like(ids)[:, None],
        masked_positions=jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), (size, 1, width)),
        masked_targets=jnp.maximum(labels, 0)[:, None],
        masked_weight=(labels >= 0).astype(jnp.float32)[:, None],
        masked_dropped=jnp.zeros(size, jnp.int32),
        _weight=jnp.ones(size),
    )


def _vlbert_batch(golden) -> dict[str, dict]:
    """The file's inputs as corrupted stream batches."""
    boxes = golden["in/boxes"]
    mask = boxes[..., 0] > -1.5
    labels = golden["in/mvrc_labels"]
    classes = np.broadcast_to(np.arange(labels.shape[-1]), labels.shape)
    captions = _text_arrays(golden["in/text"], golden["in/mlm_labels"]) | dict(
        regions=jnp.asarray(boxes[:, None, :, 4:]),
        boxes=jnp.asarray(boxes[:, None, :, :4]),
        image_size=jnp.asarray(golden["in/im_info"][:, None, 1::-1]),
        region_mask=jnp.asarray(mask[:, None]),
        region_masked=jnp.asarray((golden["in/mvrc_ops"] == 1)[:, None]),
        region_weight=jnp.asarray((abs(labels.sum(-1) - 1) < 0.1) * 1.0)[:, None],
        region_class_ids=jnp.asarray(classes[:, None], jnp.int32),
        region_class_probs=jnp.asarray(labels[:, None]),
        region_rest_prob=jnp.zeros(mask[:, None].shape),
        alignment_label=jnp.asarray(golden["in/relationship_label"], jnp.int32),
    )
    batch = {"captions": captions}
    if "in/aux_text" in golden:
        batch["text"] = _text_arrays(golden["in/aux_text"], golden["in/aux_mlm_labels"])
    return batch


def _clean(batch, task) -> dict[str, dict]:
    """Uncorrupted stand-ins of the same shapes, for init (which corrupts them itself)."""
    out = {}
    for stream, arrays in batch.items():
        out[stream] = dict(arrays, word_starts=jnp.ones_like(arrays["text_mask"]))
        if "regions" in arrays:
            out[stream]["num_detected"] = arrays["region_mask"].sum(-1) - 1
        if any(one.name == "alignment" for one in task.streams[stream]):  # swaps two texts a row
            for key in ("text_ids", "text_mask", "segment_ids", "word_starts"):
                out[stream][key] = jnp.concatenate([out[stream][key]] * 2, axis=1)
    return out


def _vlbert_outputs(one: Case, logits) -> dict:
    golden, multi = one.golden, "text" in one.batch
    found = {}
    texts = {"captions": "mlm_logits_wvc" if multi else "mlm_logits"}
    if multi:
        texts["text"] = "mlm_logits_aux"
    for stream, name in texts.items():
        # Valid text positions only; the file pads both texts to the wider one.
        words = logits[f"{stream}/masked_language"]
        mask = np.asarray(one.batch[stream]["text_mask"][:, 0])
        found[name] = golden[f"out/{name}"][:, : words.shape[1]][mask], words[mask]
    mask = np.asarray(one.batch["captions"]["region_mask"][:, 0])
    regions = logits["captions/masked_region"]
    found["mvrc_logits"] = golden["out/mvrc_logits"][mask], regions[mask]
    if golden.meta["with_rel_loss"]:
        name = "relationship_logits"
        found[name] = golden[f"out/{name}"], logits["captions/alignment"]
    return found


# ----------------------------------------------------------------------------------------------
# ViLBERT


def _vilbert(golden, dtype: str) -> Case:
    task = _vilbert_task(golden.meta, dtype)
    batch = {"captions": vilbert_batch(golden) | _vilbert_targets(golden)}
    ties = dict(translate.ALIASES["vilbert"])
    flat = translate.translate("vilbert", golden.state_dict(ties)).arrays
    params = loading.unflatten({path: jnp.asarray(x) for path, x in flat.items()})
    return Case("vilbert", golden, task, batch, params, _clean(batch, task))


def vilbert_config(meta):
    """The golden file's sizes, as a user would configure them."""
    model = vilbert_pretrain.get_config("size=base").model
    model.update(
        hidden=meta["hidden_size"],
        layers=meta["num_hidden_layers"],
        heads=meta["num_attention_heads"],
        intermediate=meta["intermediate_size"],
        positions=meta["max_position_embeddings"],
        fusion=meta["fusion_method"],
        dynamic_attention=meta.get("dynamic_attention", False),
        tasks=20 if meta.get("task_specific_tokens") else 0,
    )
    model.image.update(
        hidden=meta["v_hidden_size"],
        layers=meta["v_num_hidden_layers"],
        heads=meta["v_num_attention_heads"],
        intermediate=meta["v_intermediate_size"],
    )
    model.connect.update(
        hidden=meta["bi_hidden_size"],
        heads=meta["bi_num_attention_heads"],
        text_at=tuple(meta["t_biattention_id"]),
        image_at=tuple(meta["v_biattention_id"]),
        coattention=meta.get("with_coattention", True),
    )
    return model


def vilbert_batch(golden) -> dict:
    """The file's inputs as one stream batch; locations are boxes in an image of 1 × 1."""
    location = golden["in/image_loc"]
    area = (location[..., 2] - location[..., 0]) * (location[..., 3] - location[..., 1])
    np.testing.assert_allclose(area, location[..., 4], atol=1e-6)
    size = len(location)
    batch = dict(
        text_ids=golden["in/input_ids"].astype(np.int32)[:, None],
        text_mask=golden["in/attention_mask"].astype(bool)[:, None],
        segment_ids=golden["in/token_type_ids"].astype(np.int32)[:, None],
        regions=golden["in/image_feat"][:, None],
        boxes=location[:, None, :, :4],
        region_mask=golden["in/image_attention_mask"].astype(bool)[:, None],
        image_size=np.ones((size, 1, 2), np.float32),
        _weight=np.ones(size, np.float32),
    )
    if "in/task_ids" in golden:
        batch["task_id"] = golden["in/task_ids"][:, 0].astype(np.int32)
    return jax.tree.map(jnp.asarray, batch)


def _vilbert_task(meta, dtype: str) -> MultiTaskModel:
    """Trunk, heads and objectives as the config builds them."""
    config = vilbert_pretrain.get_config("size=base")
    config.dtype = dtype
    config.model = vilbert_config(meta)
    config.objectives.masked_language.cap = 1.0
    config.objectives.masked_region.target = {0: "kl", 1: "regression"}[meta["visual_target"]]
    config.streams.captions.update(max_text=12, max_regions=8, max_length=20)
    special = SpecialIds(0, 100, 101, 102, 103, meta["vocab_size"])
    classes = meta["v_target_size"] if meta["visual_target"] == 0 else 5
    spec = types.SimpleNamespace(
        feature_dim=meta["v_feature_size"], num_classes=classes, global_feature="mean"
    )
    return MultiTaskModel(config, special, spec)


def _vilbert_targets(golden) -> dict:
    labels = golden["in/masked_lm_labels"]
    target = np.pad(golden["in/image_target"], ((0, 0), (1, 0), (0, 0)))[:, None]
    picked = np.pad(golden["in/image_label"] == 1, ((0, 0), (1, 0)))[:, None]
    found = dict(
        masked_positions=jnp.broadcast_to(jnp.arange(labels.shape[1]), labels.shape)[:, None],
        masked_targets=jnp.maximum(labels, 0)[:, None],
        masked_weight=jnp.asarray(labels >= 0, jnp.float32)[:, None],
        masked_dropped=jnp.zeros(len(labels), jnp.int32),
        region_weight=jnp.asarray(picked, jnp.float32),
        alignment_label=jnp.asarray(1 - golden["in/next_sentence_label"]),  # theirs: 0 = match
    )
    if golden.meta["visual_target"] == 0:
        classes = jnp.broadcast_to(jnp.arange(target.shape[-1]), target.shape)
        return found | dict(
            region_class_ids=classes,
            region_class_probs=jnp.asarray(target),
            region_rest_prob=jnp.zeros(target.shape[:-1]),
        )
    return found | dict(region_target=jnp.asarray(target))


def _vilbert_outputs(one: Case, logits) -> dict:
    golden = one.golden
    return dict(
        prediction_scores_t=(
            golden["out/prediction_scores_t"],
            logits["captions/masked_language"],
        ),
        prediction_scores_v=(golden["out/prediction_scores_v"], logits["captions/masked_region"]),
        seq_relationship_score=(
            golden["out/seq_relationship_score"],
            logits["captions/alignment"][:, ::-1],
        ),
    )
