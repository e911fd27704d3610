"""Every field of every config: a wrong value is refused by name, before any data is opened."""

import functools
import importlib
import math
import re

import pytest

from core.errors import UserError
from tests.test_configs import CASES as ALL
from training import config_checks

# Larger sizes have the same fields.
CASES = [(name, arg) for name, arg in ALL if "size=mini" in arg]
# Sorts of values that a field takes, with the reason: (regex of the path, sorts).
PASSES = [
    # Paths and names outside the config: looked at where they are opened.
    (r"(init|init_vocab|compile_cache|wandb)", "unknown"),
    (r"data\.(dir|annotations|eval_annotations|manual_dir|tfds_dir|image_data)", "unknown"),
    (r"data\.(answers|held_out|regions|pictures|vocab|corpus)", "unknown"),
    (r"data\.(train_split|eval_split|test_split|json_keys\.\w+)", "unknown"),
    (r"evals\.\w+\.split", "unknown"),
    (r"streams\.\w+\.distractors", "unknown"),  # "random", or the path of a pool
    # 0 means off, none, all, or as the model or the data have it.
    (r"(seed|overfit|predict\.examples|stall\.seconds|dry_run\.hosts)", "zero"),
    (r"optimizer\.(clip_norm|skip_nonfinite|warmup_steps|weight_decay)", "zero"),
    (r"optimizer\.(lr|b1|b2|eps|decay)", "zero"),  # at the edge of what has a meaning
    (r"streams\.(\w+\.(block|couples)|(text|truth)\.batch_size)", "zero"),
    (r"evals\.\w+\.first", "zero"),
    (r"streams\.\w+\.task", "zero"),
    (r"stream_schedule\.stop_and_go\.(threshold|resume|patience|cooldown)", "zero"),
    (r"objectives\.((?!phrase)\w+\.width|\w+\.(weight|dropout)|classification\.classes)", "zero"),
    (r"objectives\.\w+\.(rate|keep|iou|elsewhere|tagged)", "zero"),
    (r"model\.(dropout|init_range)", "zero"),
    (r"model\.(tasks|fixed_text_layers|image\.fixed_layers)", "zero"),
    (r"data\.scenes\.(seed|validation|test)", "zero"),
    # Initial gains of norms: any number has a meaning.
    (r"model\.(text|region)_visual_gain", "zero negative"),
    (r"model\.region_feature_gain", "zero"),
    (r"model\.vision\.frozen_stages", "zero"),
    (r"model\.geometry\.(offset|scale)", "zero negative"),
]
LEAVES = {
    (name, arg): sorted(
        config_checks.leaves_of(importlib.import_module(f"configs.{name}").get_config(arg))
    )
    for name, arg in CASES
}


def wrong_values(value):
    """{sort: a value of the field's type that has no meaning}."""
    if isinstance(value, bool):
        return {}  # both are right, and ml_collections refuses others
    if isinstance(value, str):
        return {"unknown": "no such thing"}
    if isinstance(value, int):
        return {"zero": 0, "negative": -2}
    if isinstance(value, float):
        return {"zero": 0.0, "negative": -0.5, "not a number": math.nan, "infinite": math.inf}
    return {
        "bad regex": ("(",),
        "wrong type": (object(),),
        "wrong length": (*value, *value, 1, -1),
        "negative": (-1.0, -1.0),
    }


# Scenes are no files.
REFUSED_OF_SCENES = {f"data.{name}" for name in ("vocab", "manual_dir", "tfds_dir")}


def passes(path, sort, config):
    if config.data.dataset == "scenes" and path in REFUSED_OF_SCENES:
        return False
    if path == "init_vision":  # opened by a model that sees pictures, refused by others
        return sort == "unknown" and config.model.get("features") == "pixels"
    return any(re.fullmatch(pattern, path) and sort in sorts for pattern, sorts in PASSES)


@pytest.mark.parametrize(("name", "arg"), CASES)
def test_wrong_values_are_refused_by_name(name, arg):
    config = importlib.import_module(f"configs.{name}").get_config(arg)
    config_checks.check(config)
    taken = []
    for path in LEAVES[name, arg]:
        if re.match(r"streams\.\w+\.data\.", path):
            continue  # they follow config.data, whose checks they have
        value = value_at(config, path)
        for sort, wrong in wrong_values(value).items():
            with config.unlocked():
                config.update_from_flattened_dict({path: wrong})
            try:
                config_checks.check(config)
                if not passes(path, sort, config):
                    taken.append(f"{path}={wrong!r} ({sort}) is taken")
            except UserError as error:
                if path not in str(error) and f"{path.rpartition('.')[2]}" not in str(error):
                    taken.append(f"{path}={wrong!r} ({sort}) is not named in: {error}")
                elif passes(path, sort, config):
                    taken.append(
                        f"{path}={wrong!r} ({sort}) is refused, and in the table of passes"
                    )
            with config.unlocked():
                config.update_from_flattened_dict({path: value})
    assert not taken, "\n".join(taken)


def test_data_of_one_stream_are_refused_under_its_name():
    config = importlib.import_module("configs.vlbert_pretrain").get_config()
    config.streams.captions.data.threads = 0
    with pytest.raises(UserError, match=r"config\.streams\.captions\.data\.threads"):
        config_checks.check(config)


def value_at(config, path):
    for part in path.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize(("name", "arg"), CASES)
def test_every_field_has_a_check(name, arg):
    config = importlib.import_module(f"configs.{name}").get_config(arg)
    assert set(LEAVES[name, arg]) <= set(config_checks.checks_of(config))


def test_a_field_that_is_not_there_is_named_or_has_a_default():
    told = {}
    for path in LEAVES[CASES[0]]:
        config = importlib.import_module(f"configs.{CASES[0][0]}").get_config(CASES[0][1])
        *blocks, name = path.split(".")
        with config.unlocked():
            del functools.reduce(lambda block, key: block[key], blocks, config)[name]
        try:
            config_checks.check(config)
        except UserError as error:
            told[path] = str(error)
    assert len(told) > 0.9 * len(LEAVES[CASES[0]])
    for path, text in told.items():
        name = path.rpartition(".")[2]
        assert re.search(rf"(?s)lacks (a setting|settings).*\b{name}\b", text)
