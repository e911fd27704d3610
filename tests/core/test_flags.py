"""Flags with a config among them: what a user gets wrong is one message and exit status 1."""

import pytest
from absl import flags

from configs import vqa
from core import flags as command_line


@pytest.fixture
def parse(monkeypatch):
    """parse(arguments...) → the config."""

    def run(*argv):
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        command_line.parse(["main.py", *argv], start=command_line.load, about=lambda: "the help")
        return values.config

    return run


VQA = "--config=configs/vqa.py"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config=configs/vka.py"], ["no such file: configs/vka.py", "configs/vqa.py"]),
        (["--config=vqa:model=vlbert"], ["fix: --config=configs/vqa.py:model=vlbert"]),
        (["--config=configs"], ["no such file: configs", "configs/vcr.py"]),
        (["--config=configs/common.py"], ["has no function get_config"]),
        ([f"{VQA}:size=nope"], ["'size' must be one of", "found 'nope'"]),
        ([f"{VQA}:model=vilbrt"], ["did you mean 'vilbert'?"]),
        ([f"{VQA}:modle=vlbert"], ["did you mean 'model'?"]),
        ([f"{VQA}:preset=own"], ["'preset' must be one of"]),
        ([VQA, "--config.optimizer.lrr=1"], ["optimizer.lrr", "fix: --config.optimizer.lr="]),
        ([VQA, "--config.optimiser.lr=1"], ["fix: --config.optimizer.lr="]),
        ([VQA, "--config.lr", "1"], ["fix: --config.optimizer.lr="]),
        ([VQA, "--config.data.annotations=a"], ["dataset='scenes', which --config=FILE:"]),
        ([VQA, "--config.seed.x=1"], ["config.seed.x", "found: x"]),
        ([VQA, "--noconfig.stall.abbort"], ["fix: --config.stall.abort="]),
        ([VQA, "--config.total_steps=1e3"], ["config.total_steps", "a whole number", "'1e3'"]),
        ([VQA, "--config.stall.abort=maybe"], ["config.stall.abort", "true or false"]),
        ([VQA, "--config.optimizer.lr=fast"], ["config.optimizer.lr", "a number", "'fast'"]),
        ([VQA, "--config.model=3"], ["config.model"]),
        ([VQA, "--wrkdir=x"], ["wrkdir"]),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_sentence(arguments, told, parse, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*arguments)
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert "Traceback" not in printed
    for text in told:
        assert text in printed


def test_fields_change_the_config_wherever_they_stand(parse):
    config = parse("--config.seed=3", VQA, "--config.stall.abort", "--config.data.weights=(1.0,)")
    assert (config.seed, config.stall.abort, config.data.weights) == (3, True, (1.0,))
    assert command_line.overrides() == {"seed": 3, "stall.abort": True, "data.weights": (1.0,)}
    assert config.streams.examples.data.weights == (1.0,)
    assert config.model == vqa.get_config().model


def test_help_ends_well_and_needs_no_config(parse, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--help")
    assert (ended.value.code, capsys.readouterr().out) == (0, "the help\n")


def test_flags_are_found_before_they_are_parsed():
    argv = ["main.py", "--workdir", "a b", "-mode=eval", "--", "--mode=train"]
    assert command_line.value_in(argv, "workdir") == "a b"
    assert command_line.value_in(argv, "mode") == "eval"
    assert command_line.value_in(argv, "config") == ""


def test_a_bug_in_a_config_shows_where(parse, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def get_config():\n    return {}['x']\n")
    with pytest.raises(KeyError, match="x"):
        parse(f"--config={path}")
