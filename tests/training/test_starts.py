"""Where parameters come from: what must agree that shapes do not tell."""

import pytest

import vl_models
from checkpoints import run_config
from checkpoints.state_files import SourceError
from configs import vilbert_pretrain, vlbert_pretrain
from training import starts


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
    older = {k: v for k, v in model.items() if k not in ("geometry", "region_feature_gain")}
    assert run_config.plain(run_config.restored({"model": older}))["model"] == model
    assert vl_models.completed(model) == model
