"""ViLBERT against the original: trunk, task heads and gradients of every golden file."""

import zlib

import golden_files
import golden_pretraining
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vl_models import heads, layers, loading, vilbert
from vl_models.published import translate
from vl_models.trunk import TrunkSpec

ALIASES = dict(translate.ALIASES["vilbert"])


def make_trunk(meta):
    return vilbert.build(
        golden_pretraining.vilbert_config(meta),
        TrunkSpec(
            vocab_size=meta["vocab_size"],
            feature_dim=meta["v_feature_size"],
            text_only=False,
            masked_regions=False,
            dtype=jnp.float32,
        ),
    )


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


@pytest.mark.parametrize(
    "path", golden_files.files("vilbert_pretrain*.npz"), ids=lambda path: path.stem
)
def test_pretraining_losses_and_gradients(path):
    case = golden_pretraining.case(path)
    case.check(case.run())


@pytest.mark.parametrize(
    "path", golden_files.files("vilbert_vl_tasks*.npz"), ids=lambda path: path.stem
)
def test_task_outputs_and_gradients(path):
    golden = golden_files.Golden(path)
    trunk, batch = make_trunk(golden.meta), golden_pretraining.vilbert_batch(golden)
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
