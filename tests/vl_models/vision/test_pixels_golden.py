"""VL-BERT from pixels against the original: features, outputs, losses and gradients."""

import types
import zlib

import golden_files
import golden_tasks
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vlbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives import assemble, choice
from objectives.model import MultiTaskModel
from vl_models.published import translate, vision
from vl_models.vision import regions

GROUNDING = dict(
    weight=1.0, head="grounding", classifier="transform", dropout=0.0, target="binary",
    normalize="candidates", hit="at_least_half",
)  # fmt: skip
CHOICE = dict(
    weight=1.0, pairs="texts", choices=4, dropout=0.1, head="choice", classifier="1fc", width=0,
    head_init="alignment", segment_b="copy", cut_first="question",
)  # fmt: skip


def check_features(golden, found, mask):
    width = golden["out/region_features"].shape[1]
    golden.check_output("region_features", np.asarray(found)[:, 0, :width], mask[:, :width])


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", golden_files.files("vlbert_e2e_refcoco*.npz"), ids=lambda path: path.stem
)
def test_referring_expressions(path):
    golden = golden_files.Golden(path)
    task = golden_tasks.task_of(golden, dict(grounding=GROUNDING))
    expressions = golden_tasks.Texts([row[row > 0] for row in golden["in/expression"]])
    label = golden["in/label"]
    texts = assemble.caption(
        expressions,
        np.arange(len(label)),
        golden_tasks.special_of(golden),
        golden["in/expression"].shape[1] + 2,
    )
    batch = golden_tasks.image_arrays(golden, padding=-2) | texts
    batch["region_iou"] = jnp.asarray(np.maximum(label, 0.01), jnp.float32)[:, None]
    out, means = golden_tasks.check_published(golden, "vlbert_refcoco", task, batch)
    golden.check_loss("cls_loss", means["grounding"])
    golden.check_output("label_logits", out["grounding"], label >= 0)
    check_features(golden, out["region_features"], label >= 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", golden_files.files("vlbert_e2e_vcr*.npz"), ids=lambda path: path.stem
)
def test_commonsense_reasoning(path):
    golden = golden_files.Golden(path)
    loss = "sigmoid" if golden.meta["classifier_sigmoid"] else "softmax"
    blocks = dict(choice=CHOICE | dict(loss=loss))
    if golden.meta["cnn_reg_loss"]:
        blocks["object_class"] = dict(weight=1.0, classes=81)
    task = golden_tasks.task_of(golden, blocks, pooler=True)
    texts = []
    for question, answers in zip(golden["in/question"], golden["in/answer_choices"], strict=True):
        texts += [part[part[:, 0] > 0] for part in (question, *answers)]
    answers = golden["in/answer_choices"]
    arrays = choice.Texts(4)(
        golden_tasks.Texts(texts),
        np.arange(len(answers)) * 5,
        golden_tasks.special_of(golden),
        golden["in/question"].shape[1] + answers.shape[2] + 3,
    )
    boxes = golden["in/boxes"]
    batch = golden_tasks.image_arrays(golden, padding=-1) | arrays
    batch["label"] = jnp.asarray(golden["in/answer_label"], jnp.int32)[:, None]
    batch["region_label"] = jnp.asarray(boxes[:, None, :, 5], jnp.int32)
    out, means = golden_tasks.check_published(golden, "vlbert_vcr", task, batch)
    golden.check_loss("ans_loss", means["choice"])
    golden.check_output("label_logits", out["choice"])
    if golden.meta["cnn_reg_loss"]:
        golden.check_loss("cnn_regularization_loss", means["object_class"])
    check_features(golden, out["region_features"], boxes[..., 3] > -0.5)


def pretraining_task(meta):
    config = vlbert_pretrain.get_config("size=base")
    config.dtype = "float32"
    config.model.update(
        hidden=meta["hidden_size"],
        layers=meta["num_hidden_layers"],
        heads=meta["num_attention_heads"],
        intermediate=meta["intermediate_size"],
        positions=meta["max_position_embeddings"],
    )
    golden_tasks.see(config, meta)
    config.objectives.masked_language.cap = 1.0
    config.streams.captions.update(max_text=24, max_regions=24, max_length=48)
    config.streams.text.update(max_text=24, batch_size=1)
    spec = types.SimpleNamespace(
        feature_dim=1, num_classes=meta["visual_region_classes"], global_feature="stored"
    )
    return MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, meta["vocab_size"]), spec)


def masked_text(ids, labels):
    """[B, T] ids and labels (-1 = none) as the keys of a corrupted stream batch."""
    size, width = ids.shape
    at = np.broadcast_to(np.arange(width, dtype=np.int32), (size, 1, width))
    return dict(
        text_ids=np.int32(ids)[:, None],
        text_mask=(ids > 0)[:, None],
        segment_ids=np.zeros((size, 1, width), np.int32),
        word_starts=np.ones((size, 1, width), bool),
        masked_positions=at,
        masked_targets=np.int32(np.maximum(labels, 0))[:, None],
        masked_weight=np.float32(labels >= 0)[:, None],
        masked_dropped=np.zeros(size, np.int32),
        _weight=np.ones(size, np.float32),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", golden_files.files("vlbert_e2e_pretrain*.npz"), ids=lambda path: path.stem
)
def test_pretraining(path):
    golden = golden_files.Golden(path)
    task = pretraining_task(golden.meta)
    state = golden.state_dict(dict(translate.ALIASES["vlbert"]))
    loaded = translate.translate("vlbert", state).arrays
    labels = golden["in/mvrc_labels"]
    classes = np.broadcast_to(np.int32(np.arange(labels.shape[-1])), labels.shape)
    captions = masked_text(golden["in/text"], golden["in/mlm_labels"])
    captions |= golden_tasks.image_arrays(golden, padding=-2) | dict(
        region_masked=(golden["in/mvrc_ops"] == 1)[:, None],
        region_weight=np.float32(abs(labels.sum(-1) - 1) < 0.1)[:, None],
        region_class_ids=classes[:, None],
        region_class_probs=labels[:, None],
        region_rest_prob=np.zeros(labels[:, None].shape[:3], np.float32),
        num_detected=np.ones((len(labels), 1), np.int32),
    )
    batch = {"captions": captions}
    if "in/aux_text" in golden:
        batch["text"] = masked_text(golden["in/aux_text"], golden["in/aux_mlm_labels"])
    batch = jax.tree.map(jnp.asarray, batch)

    def objective(params):
        sums, out, weights = {}, {}, {}
        for stream, arrays in batch.items():
            outputs = task.outputs(params, stream, arrays)
            for one in task.streams[stream]:
                out[key := f"{stream}/{one.name}"] = one.logits(
                    task.head(params, one.head_name), outputs, arrays
                )
                sums[key] = one.loss(out[key], arrays)
            out |= {k: v for k, v in outputs.items() if k == "region_features"}
            weights |= task.weights(stream, arrays)
        means = {k: jnp.asarray(v / weights[k]) for k, v in sums.items()}
        return task.total(sums, weights), (out, means)

    shapes = jax.eval_shape(lambda: task.init(jax.random.key(0), batch))
    params = golden_files.fitted(shapes, loaded)

    def run(params):
        return jax.jit(jax.value_and_grad(objective, has_aux=True))(params)

    (loss, (out, means)), grads = run(params)
    golden.check_loss("loss", loss)
    golden.check_loss("mlm_loss_wvc", means["captions/masked_language"])
    golden.check_loss("mvrc_loss", means["captions/masked_region"])
    real = np.asarray(captions["region_mask"][:, 0])
    golden.check_output("mvrc_logits", out["captions/masked_region"], real)
    check_features(golden, out["region_features"], real)
    for stream, name in (("captions", "wvc"), ("text", "aux")):
        if stream in batch:
            golden.check_loss(f"mlm_loss_{name}", means[f"{stream}/masked_language"])
            mask = np.asarray(batch[stream]["text_mask"][:, 0])
            found = np.asarray(out[f"{stream}/masked_language"])[mask]
            expected = golden[f"out/mlm_logits_{name}"][:, : mask.shape[1]][mask]
            np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-4)
    golden_tasks.check_gradients(
        golden, "vlbert", task, params, grads, lambda params: run(params)[1]
    )


@pytest.mark.parametrize("path", golden_files.files("vlbert_e2e*.npz"), ids=lambda path: path.stem)
def test_hidden_regions_are_blanked_already(path):
    """The files' pictures are as the original's data set leaves them: nothing changes here."""
    golden = golden_files.Golden(path)
    image = golden["in/image"].transpose(0, 2, 3, 1)
    hidden = golden["in/mvrc_ops"] == 1 if "in/mvrc_ops" in golden else None
    size = golden["in/im_info"][:, 1::-1]
    found = regions.prepared(jnp.asarray(image), jnp.asarray(size))
    if hidden is not None:
        assert hidden.any()
        boxes = jnp.asarray(golden["in/boxes"][..., :4])
        found = regions.blanked(found, boxes, jnp.asarray(hidden))
    np.testing.assert_array_equal(found, image)


def test_names_of_the_branch_go_in_and_come_out():
    golden = golden_files.Golden(golden_files.files("vlbert_e2e_refcoco.npz")[0])
    ties = dict(translate.ALIASES["vlbert_refcoco"])
    # Names are what this is about: of each array one number, another for each.
    branch = {
        name: np.full([1] * len(shape), zlib.crc32(ties.get(name, name).encode()), np.int64)
        for name, shape in golden.meta["state_dict"].items()
        if name.startswith("image_feature_extractor.")
    }
    back = translate.to_torch("vlbert", translate.translate("vlbert", branch).arrays)
    counters = {name for name in back if name.endswith(vision.COUNTER)}
    assert len(back) == 686
    assert set(back) - counters == set(branch)
    assert all(np.array_equal(back[name], value) for name, value in branch.items())
    again = translate.translate("vlbert", back)
    assert counters <= set(again.dropped)
    plain = {n.replace("image_feature_extractor.backbone.", ""): x for n, x in branch.items()}
    plain = {
        n.replace("image_feature_extractor.roi_head_feature_extractor", "layer4"): x
        for n, x in plain.items()
        if not n.startswith("image_feature_extractor.")
        or ".roi_head_feature_extractor." in n
    }  # fmt: skip
    plain["fc.weight"] = np.zeros((5, 2048), np.float32)
    assert translate.kind_of(plain) == "resnet"
    found = translate.translate("resnet", plain)
    assert set(found.dropped) == {"fc.weight"}
    expected = {p: x for p, x in again.arrays.items() if p.startswith("trunk/vision/")}
    assert found.arrays.keys() == expected.keys()
    assert all(np.array_equal(found.arrays[path], x) for path, x in expected.items())
