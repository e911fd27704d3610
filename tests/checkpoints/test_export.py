"""Our own models in the original's layout: what it cannot have is folded in, or told."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from checkpoints import export, run_config, sources
from configs import vilbert_pretrain, vlbert_pretrain
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from training.planning import assumed
from training.setup import assemblers
from vl_models import embeddings, loading


def source_of(module):
    """A made run of the embedded data's recipe, without training."""
    config = module.get_config()
    special = SpecialIds(0, 1, 2, 3, 4, 60)
    model = MultiTaskModel(config, special, assumed.SPEC)
    batch = assumed.batch(config, model, assemblers(config))
    rows = jax.tree.map(lambda x: jnp.zeros((2, *x.shape[1:]), x.dtype), batch)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), rows))
    rng = np.random.default_rng(0)
    arrays = {
        path: rng.standard_normal(x.shape).astype(np.float32)
        for path, x in loading.flatten(shapes).items()
    }
    return sources.Source(
        place="runs/made",
        kind="run",
        arrays=arrays,
        names={path: path for path in arrays},
        config=run_config.plain(config),
        heads=dict(model.head_specs),
    )


def test_spread_locations_are_folded_into_their_layer(tmp_path, capsys):
    source = source_of(vilbert_pretrain)
    state = export.to_torch(source, str(tmp_path / "model.safetensors"))
    assert "the head 'phrase_grounding' is left out" in capsys.readouterr().err
    assert load_file(tmp_path / "model.safetensors").keys() == state.keys()
    assert not [name for name in state if "phrase" in name]
    boxes, size = jnp.array([[[10.0, 20, 110, 220]]]), jnp.array([[300.0, 400]])
    layer = "trunk/regions/location"
    spread = embeddings.location(
        boxes, size, embeddings.Geometry.of(source.config["model"]["geometry"])
    )
    ours = spread @ source.arrays[f"{layer}/kernel"] + source.arrays[f"{layer}/bias"]
    name = "image_location_embeddings"
    (kernel,) = [x for key, x in state.items() if key.endswith(f"{name}.weight")]
    (bias,) = [x for key, x in state.items() if key.endswith(f"{name}.bias")]
    theirs = embeddings.location(boxes, size) @ kernel.T + bias
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)


def test_an_embedding_of_boxes_that_the_original_lacks_is_told(tmp_path, capsys):
    export.to_torch(source_of(vlbert_pretrain), str(tmp_path / "model.safetensors"))
    told = capsys.readouterr().err
    assert "the original's code does not have" in told
    assert "base=30.0" in told


def test_published_values_are_exported_as_they_are(tmp_path, capsys):
    source = source_of(vilbert_pretrain)
    source.config["model"]["geometry"] = dict(offset=[0.0, 0.0], scale=[1.0, 1.0])
    state = export.to_torch(source, str(tmp_path / "model.safetensors"))
    kernel = source.arrays["trunk/regions/location/kernel"]
    assert any(x.shape == kernel.T.shape and np.array_equal(x, kernel.T) for x in state.values())
    assert "boxes" not in capsys.readouterr().err


def test_heads_of_several_of_vlberts_originals_go_one_by_one(tmp_path):
    source = source_of(vlbert_pretrain)
    rest = {path: x for path, x in source.arrays.items() if path.startswith("trunk/")}
    shapes = {"transform/kernel": (64, 64), "transform/bias": (64,), "classifier/kernel": (64, 1),
              "classifier/bias": (1,)}  # fmt: skip
    for head in ("grounding", "choice"):
        rest |= {f"heads/{head}/{part}": np.ones(shape) for part, shape in shapes.items()}
    source = dataclasses.replace(source, arrays=rest, heads={})
    path = str(tmp_path / "model.safetensors")
    with pytest.raises(
        sources.SourceError, match=r"(?s)heads/(choice|ground).*fix:.*--without=\w+$"
    ):
        export.to_torch(source, path)
    state = export.to_torch(source, path, without=["choice"])
    assert "final_mlp.0.dense.weight" in state
