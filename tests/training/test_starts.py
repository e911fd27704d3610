"""Where parameters come from: what must agree that shapes do not tell."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import vl_models
from checkpoints import run_config
from checkpoints.state_files import SourceError
from configs import vilbert_pretrain, vlbert_pretrain
from core.errors import ConfigError
from training import config_checks, starts


@pytest.mark.parametrize("module", [vlbert_pretrain, vilbert_pretrain])
def test_parameters_of_boxes_that_were_spread_otherwise_are_refused(module):
    mini, base = (module.get_config(f"size={size}") for size in ("mini", "base"))
    own = run_config.plain(mini)["model"]
    starts._require_geometry(mini, own, "runs/a")
    older = {name: value for name, value in own.items() if name != "geometry"}
    scale = base.model.geometry.scale
    message = rf"(?s)runs/a was trained on boxes.*geometry\.scale=\"\({scale[0]}, {scale[1]}\)\""
    with pytest.raises(SourceError, match=message):
        starts._require_geometry(mini, older, "runs/a")
    # As the flags of the message have it.
    for name, value in base.model.geometry.items():
        mini.model.geometry[name] = value
    starts._require_geometry(mini, older, "runs/a")
    starts._require_geometry(base, {"name": base.model.name}, "published.bin")


@pytest.mark.parametrize("argument", ["size=base", "size=base,model=single_stream"])
def test_a_model_that_an_earlier_version_saved_has_the_published_values(argument):
    module = vilbert_pretrain if "single" in argument else vlbert_pretrain
    model = run_config.plain(module.get_config(argument))["model"]
    later = ("geometry", "region_feature_gain", "features", "vision")
    older = {k: v for k, v in model.items() if k not in later}
    assert run_config.plain(run_config.restored({"model": older}))["model"] == model
    assert vl_models.completed(model) == model


def save(path, arrays):
    save_file({name: np.asarray(x, np.float32) for name, x in arrays.items()}, path)
    return str(path)


def test_convolutions_come_from_a_place_of_their_own(tmp_path):
    rng = np.random.RandomState(0)
    resnet = {
        "conv1.weight": rng.randn(8, 3, 7, 7),
        "layer4.0.conv1.weight": rng.randn(4, 16, 1, 1),
    }
    words = {"bert.embeddings.word_embeddings.weight": rng.randn(9, 4)}
    config = vlbert_pretrain.get_config("size=mini")
    config.model.features = "pixels"
    config.init = save(tmp_path / "bert.safetensors", words)
    with pytest.raises(SourceError, match=r"(?s)begin without convolutions.*found: a bert\n"
                       r".*--config\.init_vision=scratch"):  # fmt: skip
        starts._source(config)
    config.init_vision = "scratch"
    assert set(starts._source(config).arrays) == {"trunk/embeddings/word/embedding"}
    config.init_vision = save(tmp_path / "resnet.safetensors", resnet)
    found = starts._source(config)
    assert set(found.arrays) == {
        "trunk/embeddings/word/embedding",
        "trunk/vision/backbone/stem/kernel",
        "trunk/vision/head/res5/block_0/conv1/kernel",
    }
    stem = found.arrays["trunk/vision/backbone/stem/kernel"]
    np.testing.assert_array_equal(stem, np.float32(resnet["conv1.weight"]).transpose(2, 3, 1, 0))
    assert found.names["trunk/vision/backbone/stem/kernel"] == "conv1.weight"
    config.init = ""
    assert all(path.startswith("trunk/vision/") for path in starts._source(config).arrays)
    config.init_vision = str(tmp_path / "bert.safetensors")
    with pytest.raises(SourceError, match="no convolutions to start from"):
        starts._source(config)
    config.model.features = "store"
    with pytest.raises(ConfigError, match=r"(?s)the model has none.*config\.init_vision"):
        config_checks.check(config)
