"""The single-stream baseline against the original: outputs, gradients, parameter counts."""

import types

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
from golden_pretraining import vilbert_batch
from test_vilbert import make_batch as made_up_batch
from test_vilbert_golden import probe_loss

from configs import vilbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from vl_models import heads, loading, single_stream
from vl_models.published import translate
from vl_models.trunk import TrunkSpec


def test_outputs_and_gradients():
    golden = golden_files.Golden(golden_files.files("vilbert_baseline_vl_tasks.npz")[0])
    meta, batch = golden.meta, vilbert_batch(golden)
    model = vilbert_pretrain.get_config("model=single_stream,size=base").model
    model.update(
        hidden=meta["hidden_size"],
        layers=meta["num_hidden_layers"],
        heads=meta["num_attention_heads"],
        intermediate=meta["intermediate_size"],
        positions=meta["max_position_embeddings"],
    )
    trunk = single_stream.build(
        model,
        TrunkSpec(
            vocab_size=meta["vocab_size"],
            feature_dim=2048,
            text_only=False,
            masked_regions=False,
            dtype=jnp.float32,
        ),
    )
    state = golden.state_dict(dict(translate.ALIASES["single_stream"]))
    flat = translate.translate("single_stream", state).arrays
    params = loading.unflatten({path: jnp.asarray(x) for path, x in flat.items()})
    shapes = jax.eval_shape(
        lambda key: trunk.init(key, batch, train=False)["params"], jax.random.key(0)
    )
    golden_files.fitted(shapes, loading.flatten(params["trunk"]))

    def outputs(params):
        out = trunk.apply({"params": params["trunk"]}, batch, train=False)

        def head(name, module, x):
            return module.apply({"params": params["heads"][name]}, x)

        answers = heads.WeightNormClassifier(
            trunk.sizes, meta["num_labels"], 2 * meta["hidden_size"]
        )
        mask = jnp.where(batch["region_mask"][:, 0], 0.0, -10000.0)[..., None]
        one = heads.Linear(trunk.sizes, 1)
        return dict(
            sequence_output=jnp.concatenate([out["text"], out["regions"]], axis=1),
            pooled_output=out["pooled"],
            vil_prediction=head("vqa", answers, out["pooled"]),
            vil_logit=head("ranking", one, out["pooled"]),
            vision_logit=head("grounding", one, out["regions"]) + mask,
            linguisic_logit=head("word_grounding", one, out["text"]),
        )

    def loss_fn(params):
        found = outputs(params)
        return probe_loss(found), found

    (loss, found), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)
    for name, value in found.items():
        golden.check_output(name, value)
    golden.check_loss("loss", loss)
    flat = {k: np.asarray(v) for k, v in loading.flatten(grads).items()}
    golden.check_gradients(translate.to_torch("single_stream", flat))


def test_published_parameter_count():
    config = vilbert_pretrain.get_config("model=single_stream,size=base")
    spec = types.SimpleNamespace(feature_dim=2048, num_classes=1601, global_feature="mean")
    task = MultiTaskModel(config, SpecialIds(0, 100, 101, 102, 103, 30522), spec)
    batch = {"captions": made_up_batch(2, 1, features=2048)}
    shapes = loading.flatten(jax.eval_shape(task.init, jax.random.key(0), batch))
    counts = {path: np.prod(x.shape, dtype=int) for path, x in shapes.items()}
    assert sum(n for path, n in counts.items() if path.startswith("trunk/")) == 111_063_552
    assert sum(counts.values()) == 113_511_037
