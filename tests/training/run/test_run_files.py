"""Damaged files of a run folder: what is whole counts, and what is not is told."""

import json

import pytest

from tests.training import fakes
from training.run import goodput, metrics, runfolder

LINES = [
    {"step": 0, "evals/a/x": 1.0},
    {"step": 2, "train/loss": 3.0},
    {"step": 4, "train/loss": 2.0},
    {"step": 4, "evals/a/x": 2.0},
    {"step": 6, "train/loss": 1.0},
]


def written(folder, lines=LINES):
    path = folder / metrics.FILE
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "bad", [b"\xff", b"", b"[]", b'{"step": "x"}', b"{}", b"3", b"\0" * 9, b"[" * 100_000]
)
def test_a_damaged_line_loses_no_line_after_it(tmp_path, bad, capsys):
    path = written(tmp_path)
    lines = path.read_bytes().split(b"\n")
    lines[1] = bad
    path.write_bytes(b"\n".join(lines))
    whole = [LINES[0], *LINES[2:]]
    assert metrics.read(path) == whole
    told = capsys.readouterr().err
    assert f"{path}: damaged lines are left out: 2 of 5" in told
    metrics.Writer(tmp_path, after_step=4).close()  # as a run does that resumes at step 4
    assert metrics.read(path) == whole[:-1]
    capsys.readouterr()
    metrics.read(path)
    assert not capsys.readouterr().err  # told once: the file is whole again


def test_no_byte_that_changes_loses_more_than_two_lines(tmp_path):
    path = written(tmp_path)
    data = path.read_bytes()
    for at in range(len(data)):
        for byte in (0x80, 0x01):
            path.write_bytes(data[:at] + bytes([data[at] ^ byte]) + data[at + 1 :])
            found = metrics.read(path)
            assert sum(line in found for line in LINES) >= len(LINES) - 2


def test_a_line_that_a_kill_cut_off_is_left_out_in_silence(tmp_path, capsys):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    assert metrics.read(path) == LINES[:-1]
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff", b"[]", b"{}", b"null", b'{"seconds": 3}', b"[" * 100_000,
     b'{"began": "x", "time": 1, "attempts": 1, "finished": 0, "seconds": {}}'],
)  # fmt: skip
def test_a_damaged_goodput_file_counts_from_the_checkpoint(tmp_path, text, capsys):
    ledger = goodput.Ledger()
    saved = ledger.state()
    (tmp_path / goodput.FILE).write_bytes(text)
    ledger.resume(tmp_path, saved)
    assert ledger.attempts == 2
    assert f"{tmp_path / goodput.FILE} is damaged" in capsys.readouterr().err
    ledger.write(tmp_path)
    assert goodput.read(tmp_path)["attempts"] == 2


@pytest.mark.parametrize("text", [b"", b"\xff\xfe{", b"{"])
def test_a_damaged_config_is_shown_and_written_anew(tmp_path, text):
    config, told = fakes.config(), []
    (tmp_path / "config.json").write_bytes(text)
    runfolder.save_config(tmp_path, config, told.append)
    assert "the config differs" in told[0]
    assert json.loads((tmp_path / "config.json").read_text()) == runfolder.plain(config)
    runfolder.save_config(tmp_path, config, told.append)
    assert len(told) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
