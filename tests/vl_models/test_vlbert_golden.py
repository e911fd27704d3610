"""VL-BERT against the original: outputs, losses and gradients of every golden file."""

import types

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vlbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from vl_models import loading
from vl_models.published import translate


def make_task(meta, feature_dim):
    """The golden file's model, as a user would configure it."""
    config = vlbert_pretrain.get_config("size=base")
    config.dtype = "float32"
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


def text_arrays(ids, labels):
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


def make_batch(golden):
    """The file's inputs as corrupted stream batches."""
    boxes = golden["in/boxes"]
    mask = boxes[..., 0] > -1.5
    labels = golden["in/mvrc_labels"]
    classes = np.broadcast_to(np.arange(labels.shape[-1]), labels.shape)
    captions = text_arrays(golden["in/text"], golden["in/mlm_labels"]) | dict(
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
        batch["text"] = text_arrays(golden["in/aux_text"], golden["in/aux_mlm_labels"])
    return batch


@pytest.mark.parametrize(
    "path", golden_files.files("vlbert_pretrain*.npz"), ids=lambda path: path.stem
)
def test_outputs_losses_and_gradients(path):
    golden = golden_files.Golden(path)
    task = make_task(golden.meta, golden["in/boxes"].shape[-1] - 4)
    ties = dict(translate.ALIASES["vlbert"])
    loaded = translate.translate("vlbert", golden.state_dict(ties)).arrays
    batch = make_batch(golden)

    def objective(params):
        sums, logits, weights = {}, {}, {}
        for stream, arrays in batch.items():
            outputs = task.outputs(params, stream, arrays)
            for one in task.streams[stream]:
                key = f"{stream}/{one.name}"
                logits[key] = one.logits(task.head(params, one.head_name), outputs, arrays)
                sums[key] = one.loss(logits[key], arrays)
            weights |= task.weights(stream, arrays)
        means = {k: jnp.asarray(v / weights[k]) for k, v in sums.items()}
        return task.total(sums, weights), (logits, means)

    shapes = jax.eval_shape(lambda: task.init(jax.random.key(0), clean_batch(batch, task)))
    params = golden_files.fitted(shapes, loaded)
    (loss, (logits, means)), grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(params)

    golden.check_loss("loss", loss)
    multi = "text" in batch
    golden.check_loss("mlm_loss_wvc" if multi else "mlm_loss", means["captions/masked_language"])
    golden.check_loss("mvrc_loss", means["captions/masked_region"])
    text_mask = np.asarray(batch["captions"]["text_mask"][:, 0])
    compare_text(golden, "mlm_logits_wvc" if multi else "mlm_logits",
                 logits["captions/masked_language"], text_mask)  # fmt: skip
    golden.check_output(
        "mvrc_logits",
        logits["captions/masked_region"],
        np.asarray(batch["captions"]["region_mask"][:, 0]),
    )
    if multi:
        golden.check_loss("mlm_loss_aux", means["text/masked_language"])
        compare_text(golden, "mlm_logits_aux", logits["text/masked_language"],
                     np.asarray(batch["text"]["text_mask"][:, 0]))  # fmt: skip
    if golden.meta["with_rel_loss"]:
        golden.check_loss("relationship_loss", means["captions/alignment"])
        golden.check_output("relationship_logits", logits["captions/alignment"])
    flat = {k: np.asarray(v) for k, v in loading.flatten(grads).items()}
    golden.check_gradients(translate.to_torch("vlbert", flat))


def clean_batch(batch, task):
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


def compare_text(golden, name, found, mask):
    """Valid text positions only; the file pads both texts to the wider one."""
    width = found.shape[1]
    expected = golden[f"out/{name}"][:, :width]
    np.testing.assert_allclose(
        np.asarray(found)[mask], expected[mask], atol=2e-5, rtol=2e-4, err_msg=name
    )


def test_converter_round_trip_is_exact():
    golden = golden_files.Golden(golden_files.files("vlbert_pretrain*.npz")[0])
    state = golden.state_dict(dict(translate.ALIASES["vlbert"]))
    prefixed = {f"module.{name}": value for name, value in state.items()}
    back = translate.to_torch("vlbert", translate.translate("vlbert", prefixed).arrays)
    assert sorted(back) == sorted(state)
    for name, value in state.items():
        assert np.array_equal(back[name], value), name


def test_unknown_published_name_is_named():
    with pytest.raises(KeyError, match=r"vlbert\.surprise"):
        translate.translate("vlbert", {"vlbert.surprise": np.zeros(3)})
    with pytest.raises(KeyError, match="trunk/surprise"):
        translate.to_torch("vlbert", {"trunk/surprise": np.zeros(3)})
