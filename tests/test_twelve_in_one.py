"""12-in-1's tables, against the released task file."""

import collections
import dataclasses
import importlib

import pytest

from configs import common, presets, twelve_in_one
from configs.twelve_in_one import FILES, HEADS, RECIPES
from input_pipeline.datasets import options
from training import stop_and_go
from vl_models.published import heads, names

# Written out from the released file (vilbert_tasks.yml): number, pieces, rows, batch, rate, epochs,
# output of the model, splits.
RELEASED = """
1  23  101 128 4e-5 20 vil_prediction        trainval minval
2  26  101 128 4e-5 20 vil_prediction        train    val
4  20  200 256 2e-5 20 vision_logit          train    val
5  60  101 64  2e-5 10 vil_logit             train    val
6  80  101 64  2e-5 10 vil_logit             train    val
7  30  101 128 2e-5 20 vil_logit             train    val
8  30  101 128 2e-5 20 vil_logit             train    val
9  20  101 256 2e-5 20 vision_logit          train    val
10 20  101 256 2e-5 20 vision_logit          train    val
11 20  101 256 2e-5 20 vision_logit          train    val
12 40  101 64  2e-5 20 vil_binary_prediction train    dev
13 56  101 256 2e-5 20 vil_tri_prediction    train    dev
15 26  101 128 4e-5 20 vil_prediction_gqa    trainval minval
17 256 306 64  2e-5 20 vision_logit          train    valid
"""
TWELVE = [name for name, recipe in RECIPES.items() if recipe.group]
ROWS = {int(line.split()[0]): line.split()[1:] for line in RELEASED.strip().splitlines()}


def test_recipes_are_the_released_ones():
    assert sorted(recipe.number for recipe in RECIPES.values()) == sorted(ROWS)
    for name, recipe in RECIPES.items():
        *numbers, head, train, validation = ROWS[recipe.number]
        ours = (recipe.text, recipe.regions, recipe.batch, recipe.rate, recipe.epochs)
        assert ours == tuple(map(float, numbers)), name
        assert HEADS[recipe.head] == head, name
        files = FILES[name]
        if files.dataset != "coco_captions":  # whose splits have Karpathy's names
            assert (files.train, files.validation.replace("minival", "minval")) == (
                train,
                validation,
            ), name


def test_the_twelve_and_their_groups():
    # --tasks 1-2-4-7-8-9-10-11-12-13-15-17 of its README
    numbers = sorted(RECIPES[name].number for name in TWELVE)
    assert numbers == [1, 2, 4, 7, 8, 9, 10, 11, 12, 13, 15, 17]
    groups = collections.Counter(RECIPES[name].group for name in TWELVE)
    assert groups == dict(vocab_vqa=3, retrieval=2, referring=5, verification=2)
    assert set(FILES) == set(RECIPES)


def test_constants_of_training():
    assert twelve_in_one.rate(TWELVE) == 2e-5
    scales = {name: twelve_in_one.loss_scale(name, TWELVE) for name in TWELVE}
    assert {name for name, scale in scales.items() if scale == 2} == {
        "vqa",
        "visual_genome_qa",
        "gqa",
    }
    assert set(scales.values()) == {1.0, 2.0}
    assert twelve_in_one.loss_scale("vqa", ["vqa", "gqa"]) == 1
    fast = {name for name in RECIPES if twelve_in_one.head_rate(name) == 1e-4}
    assert {name for name in RECIPES if RECIPES[name].head == "grounding"} == set(RECIPES) - fast
    made = twelve_in_one.OPTIMIZER
    assert (made["b1"], made["b2"], made["eps"], made["weight_decay"]) == (0.9, 0.999, 1e-6, 0.01)
    assert (made["correct_bias"], made["clip_norm"]) == (False, 0)
    # Section 3.3, which `stop_and_go.Rule` has as well.
    block = common.stream_schedule_block()["stop_and_go"]
    assert block == dataclasses.asdict(stop_and_go.Rule())
    assert block == dict(threshold=0.001, patience=1, cooldown=1, resume=0.005, gap=4, resets=())


def test_heads_are_those_of_the_published_file():
    rules = {rule.torch: rule.ours for rule in names.RULES["vilbert"]}
    for name, head in HEADS.items():
        paths = {ours for torch, ours in rules.items() if torch.startswith(f"{head}.")}
        assert paths, name
        assert all(path.startswith(f"heads/{name}/") for path in paths), name
        assert name in heads.HEADS["vilbert"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_splits_and_options_are_known_to_the_data_set(name):
    files = FILES[name]
    module = importlib.import_module(f"input_pipeline.datasets.{files.dataset}")
    for split in (files.train, files.validation, files.test):
        assert set(split.split("+")) <= set(module.SPLITS), split
    block, checks = options.of(files.dataset), options.checks(files.dataset)
    for option, value in files.options.items():
        assert option in block
        assert checks[option].holds(value), (option, value)


def test_presets_of_one_task_are_its_rows():
    for task, row in (("vqa", "vqa"), ("visual7w", "visual7w"), ("guesswhat", "guesswhat")):
        recipe = presets.find(task, "vilbert", "multitask")
        assert recipe["text"] == RECIPES[row].text
        assert recipe["lr"] == RECIPES[row].rate
        assert recipe["regions"] == RECIPES[row].regions
    assert presets.find("vcr", "vilbert", "multitask")["text"] == {"answers": 60, "rationales": 80}
