"""ViLBERT against the original: trunk, task heads and gradients of every golden file."""

import types
import zlib

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vilbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from vl_models import heads, layers, loading, vilbert
from vl_models.published import translate
from vl_models.trunk import TrunkSpec

ALIASES = dict(translate.ALIASES["vilbert"])


def model_config(meta):
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


def make_trunk(meta):
    return vilbert.build(
        model_config(meta),
        TrunkSpec(
            vocab_size=meta["vocab_size"],
            feature_dim=meta["v_feature_size"],
            text_only=False,
            masked_regions=False,
            dtype=jnp.float32,
        ),
    )


def make_batch(golden):
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


def load(meta, state, model="vilbert", trunk=None, without=()):
    """{"trunk": …, "heads": …} through the converter, the trunk's tree checked against its own."""
    flat = translate.translate(model, state).arrays
    dropped = [p for p in flat if any(p.startswith(w) for w in without)]
    return loading.unflatten({p: jnp.asarray(x) for p, x in flat.items() if p not in dropped})


def task_outputs(trunk, params, batch):
    """All outputs of the published task model, by their published names."""
    out = trunk.apply({"params": params["trunk"]}, batch, train=False)
    text, image = trunk.sizes, trunk.region_sizes
    pooled, double = out["pooled"], 2 * trunk.connect_width

    def head(name, module, x):
        return module.apply({"params": params["heads"][name]}, x)

    words = out["text"]
    if "task_token" in out:
        words = jnp.concatenate([words[:, :1], out["task_token"][:, None], words[:, 1:]], axis=1)
    mask = batch["region_mask"][:, 0]
    padded = jnp.where(mask, 0.0, layers.MASKED_SCORE)[..., None]
    mlm = heads.MaskedLanguageHead(text)
    return dict(
        vil_prediction=head("vqa", heads.Classifier(text, 3129, double, norm=True), pooled),
        vil_prediction_gqa=head("gqa", heads.Classifier(text, 1533, double, norm=True), pooled),
        vil_logit=head("ranking", heads.Linear(text, 1), pooled),
        vil_binary_prediction=head(
            "nlvr2", heads.Classifier(text, 2, double, norm=True), pooled.reshape(-1, double)
        ),
        vil_tri_prediction=head("entailment", heads.Linear(text, 3), pooled),
        vision_prediction=head(
            "masked_region", heads.Classifier(image, 23, norm=True), out["regions"]
        ),
        vision_logit=head("grounding", heads.Linear(image, 1), out["regions"]) + padded,
        linguisic_prediction=mlm.apply(
            {"params": params["heads"]["masked_language"]}, words, out["word_embedding"]
        ),
        linguisic_logit=head("word_grounding", heads.Linear(text, 1), words),
    )


def probe_loss(outputs):
    """The golden files' made-up loss over named outputs."""
    total = 0.0
    for name, value in outputs.items():
        rs = np.random.RandomState(zlib.crc32(f"out:{name}".encode()) & 0xFFFFFFFF)
        probe = jnp.asarray(rs.standard_normal(value.shape), jnp.float32)
        total += jnp.mean(jnp.where(value < -5000, 0.0, value) * probe)
    return total


def pretraining_task(meta):
    """Trunk, heads and objectives as the config builds them."""
    config = vilbert_pretrain.get_config("size=base")
    config.dtype = "float32"
    config.model = model_config(meta)
    config.objectives.masked_language.cap = 1.0
    config.objectives.masked_region.target = {0: "kl", 1: "regression"}[meta["visual_target"]]
    config.streams.captions.update(max_text=12, max_regions=8, max_length=20)
    special = SpecialIds(0, 100, 101, 102, 103, meta["vocab_size"])
    classes = meta["v_target_size"] if meta["visual_target"] == 0 else 5
    spec = types.SimpleNamespace(
        feature_dim=meta["v_feature_size"], num_classes=classes, global_feature="mean"
    )
    return MultiTaskModel(config, special, spec)


@pytest.mark.parametrize(
    "path", golden_files.files("vilbert_pretrain*.npz"), ids=lambda path: path.stem
)
def test_pretraining_losses_and_gradients(path):
    golden = golden_files.Golden(path)
    task, batch = pretraining_task(golden.meta), make_batch(golden)
    params = load(golden.meta, golden.state_dict(ALIASES))
    labels = golden["in/masked_lm_labels"]
    target = np.pad(golden["in/image_target"], ((0, 0), (1, 0), (0, 0)))[:, None]
    picked = np.pad(golden["in/image_label"] == 1, ((0, 0), (1, 0)))[:, None]
    batch |= dict(
        masked_positions=jnp.broadcast_to(jnp.arange(labels.shape[1]), labels.shape)[:, None],
        masked_targets=jnp.maximum(labels, 0)[:, None],
        masked_weight=jnp.asarray(labels >= 0, jnp.float32)[:, None],
        masked_dropped=jnp.zeros(len(labels), jnp.int32),
        region_weight=jnp.asarray(picked, jnp.float32),
        alignment_label=jnp.asarray(1 - golden["in/next_sentence_label"]),  # theirs: 0 = match
    )
    if golden.meta["visual_target"] == 0:
        classes = jnp.broadcast_to(jnp.arange(target.shape[-1]), target.shape)
        batch |= dict(
            region_class_ids=classes,
            region_class_probs=jnp.asarray(target),
            region_rest_prob=jnp.zeros(target.shape[:-1]),
        )
    else:
        batch["region_target"] = jnp.asarray(target)

    def loss_fn(params):
        outputs = task.outputs(params, "captions", batch)
        logits, sums = {}, {}
        for one in task.streams["captions"]:
            logits[one.name] = one.logits(task.head(params, one.head_name), outputs, batch)
            sums[f"captions/{one.name}"] = one.loss(logits[one.name], batch)
        weights = task.weights("captions", batch)
        means = {name: value / weights[name] for name, value in sums.items()}
        return task.total(sums, weights), (logits, means)

    (loss, (logits, means)), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)
    golden.check_loss("loss", loss)
    golden.check_loss("masked_lm_loss", means["captions/masked_language"][None])
    golden.check_loss("masked_img_loss", means["captions/masked_region"][None])
    golden.check_loss("next_sentence_loss", means["captions/alignment"][None])
    golden.check_output("prediction_scores_t", logits["masked_language"])
    golden.check_output("prediction_scores_v", logits["masked_region"])
    golden.check_output("seq_relationship_score", logits["alignment"][:, ::-1])
    flat = {k: np.asarray(v) for k, v in loading.flatten(grads).items()}
    golden.check_gradients(translate.to_torch("vilbert", flat))


@pytest.mark.parametrize(
    "path", golden_files.files("vilbert_vl_tasks*.npz"), ids=lambda path: path.stem
)
def test_task_outputs_and_gradients(path):
    golden = golden_files.Golden(path)
    trunk, batch = make_trunk(golden.meta), make_batch(golden)
    without = () if golden.meta.get("with_coattention", True) else ("trunk/connection_",)
    params = load(golden.meta, golden.state_dict(ALIASES), without=without)
    shapes = jax.eval_shape(
        lambda key: trunk.init(key, batch, train=False)["params"], jax.random.key(0)
    )
    golden_files.fitted(shapes, loading.flatten(params["trunk"]))

    def loss_fn(params):
        outputs = task_outputs(trunk, params, batch)
        return probe_loss(outputs), outputs

    (loss, outputs), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)
    for name, value in outputs.items():
        golden.check_output(name, value)
    golden.check_loss("loss", loss)
    flat = {k: np.asarray(v) for k, v in loading.flatten(grads).items()}
    golden.check_gradients(translate.to_torch("vilbert", flat))


def test_round_trip_keeps_all_but_dead_weights():
    golden = golden_files.Golden(golden_files.files("vilbert_vl_tasks_dynamic.npz")[0])
    state = golden.state_dict(ALIASES)
    back = translate.to_torch("vilbert", translate.translate("vilbert", state).arrays)
    assert sorted(back) == sorted(state)
    for name, value in state.items():
        if "q_dense" in name:
            assert not back[name].any()
            assert back[name].shape == value.shape
        else:
            assert np.array_equal(back[name], value), name
