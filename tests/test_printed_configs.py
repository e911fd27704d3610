"""What --help and --mode=config print of the configs."""

import importlib
import shlex

import pytest
from absl import flags

from configs import printed
from core import flags as command_line
from tests.test_configs import CASES, FILES


def test_help_names_every_config_argument_and_value():
    text = printed.overview()
    for name in FILES:
        module = importlib.import_module(f"configs.{name}")
        part = text.partition(f"configs/{name}.py")[2].partition("configs/")[0]
        for argument, given in module.ARGUMENTS.items():
            assert f"{argument}=" in part
            for value in filter(None, map(str, given[1] if isinstance(given, tuple) else ())):
                assert value in part
    for block in ("model", "data", "optimizer", "streams.<name>", "objectives.<name>"):
        assert f"--config.{block}.FIELD" in text


@pytest.mark.parametrize(("name", "arg"), [case for case in CASES if "size=mini" in case[1]])
def test_a_printed_config_is_its_command_line(name, arg, monkeypatch):
    config = importlib.import_module(f"configs.{name}").get_config(arg)
    text = printed.commented(config, "title")
    assert text.startswith("# title\n")
    given = shlex.split(text, comments=True)
    assert all(word.startswith("--config.") for word in given)
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    command_line.parse(
        ["main.py", f"--config=configs/{name}.py:{arg}", *given],
        start=command_line.load,
        about=str,
    )
    assert flags.FLAGS.config.to_dict() == config.to_dict()
    stated = {word.partition("=")[0] for word in given}
    fields = {f"--config.{field}" for field in command_line._leaves(config)}
    assert {field for field in fields - stated if ".data." not in field} == set()


def test_fields_come_with_the_comments_of_their_declarations():
    lines = printed.commented(
        importlib.import_module("configs.retrieval").get_config("model=vilbert"), ""
    ).splitlines()
    for line in (
        "--config.optimizer.lr=0.001  # peak, for the global batch as it is; never rescaled",
        "--config.evals.ranking.images=64  # images per step: each with each of these captions",
        '--config.objectives.choice.loss=softmax  # over the pairs, or "sigmoid" of each',
        "--config.model.image.fixed_layers=0  # lowest layers that do not train",
        "--config.data.scenes.feature_dim=128  # width of the region features",
        "--config.streams.examples.max_text=24  # T: word pieces, [CLS] and [SEP] included",
        "--config.model.hidden=48",  # it has none
    ):
        assert line in lines
    at = lines.index("--config.remat=none")
    assert " ".join(lines[at - 2 : at]).startswith("# What each layer's backward pass computes")


def test_a_stream_with_data_of_its_own_says_so():
    config = importlib.import_module("configs.vlbert_pretrain").get_config()
    config.streams.text.data.corpus = "other.txt"
    text = printed.commented(config, "")
    assert "--config.streams.text.data.corpus=other.txt" in text
    assert "--config.streams.captions.data.corpus" not in text
