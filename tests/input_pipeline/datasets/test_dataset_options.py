"""Options of data sets: declared with checks, in blocks that hold nothing of another data set."""

import importlib

import pytest
from ml_collections import ConfigDict

from configs import common
from core import checks
from core.errors import ConfigError
from input_pipeline import datasets
from input_pipeline.datasets import options


def test_every_file_of_options_has_the_name_of_a_data_set():
    assert options.known()
    assert set(options.known()) <= set(datasets.known())


@pytest.mark.parametrize("dataset", datasets.known())
def test_every_option_has_a_check_that_its_default_passes(dataset):
    block = options.of(dataset)
    leaves = set()
    for name, value in block.items():
        leaves |= {f"{name}.{key}" for key in value} if isinstance(value, dict) else {name}
    assert leaves == set(options.checks(dataset))
    checks.require("config.data", block, options.checks(dataset))


@pytest.mark.parametrize("dataset", datasets.known())
def test_what_a_reader_takes_is_declared_with_the_same_default(dataset):
    module = importlib.import_module(f"{datasets.__name__}.{dataset}")
    for name in getattr(module, "OPTIONS", ()):
        assert module.files.__kwdefaults__[name] == options.of(dataset)[name]


def test_wrong_options_are_named():
    block = options.of("scenes") | dict(records="poems")
    with pytest.raises(ConfigError, match=r"config\.data\.records\n.*'questions'"):
        checks.require("config.data", block, options.checks("scenes"))


def test_blocks_are_copies_and_hold_nothing_of_another_data_set():
    options.of("jsonl")["json_keys"]["text"] = "caption"
    assert options.of("jsonl")["json_keys"]["text"] == "text"
    assert "variant" not in options.of("scenes")
    assert "records" not in options.of("vqa")


def config():
    """Scenes, and a stream of one's own lines."""
    return common.experiment(
        {},
        "scenes",
        dict(
            a=common.stream_block((), 2),
            b=common.stream_block((), 2),
            own=common.stream_block((), 2, dataset="jsonl"),
        ),
        {},
        {},
    )


def test_streams_follow_the_shared_data_until_they_have_a_value_of_their_own():
    made = config()
    made.data.dir, made.data.scenes.train = "there", 7
    assert [made.streams[name].data.dir for name in "ab"] == ["there", "there"]
    assert made.streams.own.data.dir == "there"
    assert made.streams.b.data.scenes.train == 7
    made.streams.a.data.dir, made.streams.a.data.scenes.train = "elsewhere", 9
    made.data.dir, made.data.scenes.train = "here", 8
    assert [made.streams[name].data.dir for name in "ab"] == ["elsewhere", "here"]
    assert [made.streams[name].data.scenes.train for name in "ab"] == [9, 8]
    assert made.data.dir == "here"


def test_a_stream_of_another_data_set_has_the_options_of_that():
    made = config()
    assert made.streams.own.data.dataset == "jsonl"
    assert set(made.streams.own.data) == set(options.of("jsonl"))
    made.streams.own.data.records = "classify"
    assert made.data.records == "captions"
    with pytest.raises(AttributeError):
        made.streams.own.data.variant = "refcocog"


def test_blocks_of_streams_are_saved_as_plain_values():
    made = ConfigDict(config().to_dict())
    assert made.streams.a.data.to_dict() == made.data.to_dict()


def test_saved_blocks_get_the_names_and_defaults_of_today():
    saved = dict(dataset="scenes", dir="there", task="questions", games="all")
    block = options.completed(saved)
    assert (block["records"], block["dir"], block["threads"]) == ("questions", "there", 4)
    assert "games" not in block
    assert "task" not in block
