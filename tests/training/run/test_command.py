"""A run's folder knows its config; what the command line gives is changed in it."""

import importlib
import json

import pytest
from absl import flags

from checkpoints import run_config
from core.errors import DataError
from tests.test_configs import CASES
from training.run import command, runfolder

FILE = "configs/vqa.py:model=vlbert"


@pytest.fixture
def line(monkeypatch):
    """line(arguments...) → the parsed CommandLine."""

    def run(*argv):
        values = flags.FlagValues()
        flags.DEFINE_string("workdir", None, "", flag_values=values)
        flags.DEFINE_string("mode", "train", "", flag_values=values)
        monkeypatch.setattr(flags, "FLAGS", values)
        found = command.CommandLine(str)
        found.parse(["main.py", *map(str, argv)])
        return found

    return run


@pytest.fixture
def workdir(line, tmp_path):
    """The folder of a run with settings of its own."""
    given = line(f"--config={FILE}", "--config.data.answer_count=3", "--config.data.vocab_size=600",
                 "--config.streams.examples.resize=(600, 1000)")  # fmt: skip
    runfolder.save_config(tmp_path, flags.FLAGS.config, print, given.command())
    return tmp_path


def own(config):
    return config.data.answer_count, config.data.vocab_size, config.streams.examples.resize


OWN = (3, 600, (600, 1000))


@pytest.mark.parametrize("mode", ["train", "eval", "predict", "dry_run", "config"])
def test_the_folder_is_enough(mode, line, workdir):
    found = line(f"--workdir={workdir}", f"--mode={mode}", "--config.data.eval_split=test")
    config = flags.FLAGS.config
    assert own(config) == OWN
    assert config.streams.examples.data.eval_split == "test"  # as config.data says
    assert str(workdir) in found.note
    assert found.command().config == FILE
    assert set(found.command().overrides) == {
        "data.answer_count", "data.vocab_size", "streams.examples.resize", "data.eval_split"
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["eval", "predict"])
def test_the_same_config_given_again_keeps_the_runs_own_settings(mode, line, workdir):
    line(f"--config={FILE},size=mini", f"--workdir={workdir}", f"--mode={mode}",
         "--config.data.vocab_size=700")  # fmt: skip
    assert own(flags.FLAGS.config) == (3, 700, (600, 1000))


def test_another_config_is_taken_as_it_is_given(line, workdir):
    found = line("--config=configs/vqa.py:data=jsonl", f"--workdir={workdir}", "--mode=predict")
    assert own(flags.FLAGS.config)[1:] == (4000, ())
    assert "whose settings do not count" in found.note


def test_training_takes_the_config_as_it_is_given(line, workdir):
    found = line(f"--config={FILE}", f"--workdir={workdir}")
    assert own(flags.FLAGS.config) == (9, 4000, ())
    assert found.note == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--config= one of configs/"),
        (["--workdir=/nowhere/at/all"], "no such folder"),
        (["--workdir={empty}", "--mode=predict"], "a folder without it"),
    ],
)
def test_without_any_config_there_is_a_sentence(arguments, told, line, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        line(*(text.format(empty=tmp_path) for text in arguments))
    assert ended.value.code == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", [b"\xff\xfe{", b"{", b"[1]", b'{"data": 3}', b'{"streams": {"a": 1}}']
)
def test_a_damaged_config_is_told_and_written_anew(text, workdir, line, capsys):
    (workdir / run_config.CONFIG).write_bytes(text)
    with pytest.raises(SystemExit):
        line(f"--workdir={workdir}")
    assert str(workdir / run_config.CONFIG) in capsys.readouterr().err
    with pytest.raises(DataError, match="the config of a run cannot be read"):
        run_config.read(workdir)
    line(f"--config={FILE}", f"--workdir={workdir}")
    runfolder.save_config(workdir, flags.FLAGS.config, lambda text: None)
    assert run_config.read(workdir) is not None


@pytest.mark.parametrize(("name", "arg"), [case for case in CASES if "size=mini" in case[1]])
def test_a_config_that_is_read_back_is_the_same(name, arg):
    config = importlib.import_module(f"configs.{name}").get_config(arg)
    stream = next(iter(config.streams.values()))
    stream.data.threads = 7
    found = run_config.restored(json.loads(json.dumps(run_config.plain(config))))
    assert found.to_dict() == config.to_dict()
    assert found.is_locked
    for one in (config, found):  # streams follow config.data but where they have their own
        one.data.threads, one.data.eval_split = 9, "other"
        if "scenes" in one.data:
            one.data.scenes.train = 11
    assert found.to_dict() == config.to_dict()
