"""Shared folders: no damage of a file but the card passes; those of earlier versions open."""

import dataclasses
import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

from checkpoints import share
from core.errors import DataError

PIECES = ["[PAD]", "a", "\u2028", "b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("share") / "out"
    share.write(
        folder,
        share.Shared(
            arrays={"trunk/a": np.arange(6, dtype=np.float32), "trunk/b": np.ones(2)},
            config={"model": dict(name="vlbert", layers=1, hidden=2)},
            data_metadata={"feature_spec": dict(feature_dim=2, detector="d", num_classes=0)},
            pieces=PIECES,
            answers=["yes", "no"],
            step=3,
            origin="a test",
        ),
    )
    return folder


def test_there_and_back(folder, capsys):
    found = share.read(folder)
    assert found.pieces == PIECES
    assert found.answers == ["yes", "no"]
    assert found.step == 3
    assert found.arrays["trunk/a"].tolist() == list(range(6))
    assert capsys.readouterr().err == ""
    subprocess.run(["sha256sum", "--quiet", "-c", share.SUMS], cwd=folder, check=True)


def damages(data: bytes):
    """Every kind of damage to a file, at many places: a bit, a cut, an addition, a loss."""
    for at in range(0, len(data), max(1, len(data) // 10)):
        for bit in (1, 0x20, 0x80):
            yield data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
        yield data[:at]
    for line in data.split(b"\n")[:-1]:
        yield data.replace(line + b"\n", b"", 1)
    yield data + b"\n"
    yield None


def test_no_damage_passes_in_silence(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    tried = 0
    for file in sorted(copy.iterdir()):
        data = file.read_bytes()
        for changed in damages(data):
            tried += 1
            file.unlink() if changed is None else file.write_bytes(changed)
            if file.name == share.CARD:
                share.read(copy)
            else:
                with pytest.raises(DataError):
                    share.read(copy)
                assert share.is_folder(copy) or file.name == share.CONFIG
            file.write_bytes(data)
    assert tried > 250
    share.read(copy)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "../passwd", "", "."])
def test_digests_of_files_that_cannot_be_there_are_damage(folder, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with (copy / share.SUMS).open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(DataError, match=r"(?s)damaged.*digests of the files of such a folder"):
        share.read(copy)


def test_a_folder_of_an_earlier_version_opens_and_says_so(folder, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    (old / share.SUMS).unlink()
    about = json.loads((old / share.CONFIG).read_text())
    del about["digests"]
    (old / share.CONFIG).write_text(json.dumps(about))
    assert share.read(old).pieces == PIECES
    assert "has no digests" in capsys.readouterr().err


@pytest.mark.parametrize("file", [share.CONFIG, share.WEIGHTS, share.ANSWERS, share.SPEC])
@pytest.mark.parametrize("text", [b"\xff\xfe", b"[]", b"{", b"[" * 100_000])
def test_damage_without_digests_is_told_where_it_shows(folder, tmp_path, file, text):
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    (old / share.SUMS).unlink()
    about = json.loads((old / share.CONFIG).read_text())
    del about["digests"]
    (old / share.CONFIG).write_text(json.dumps(about))
    pathlib.Path(old / file).write_bytes(text)
    if file in (share.ANSWERS, share.SPEC) and text == b"[]":
        share.read(old)
    else:
        with pytest.raises(DataError):
            share.read(old)


def test_the_card_shows_names_from_elsewhere_as_they_are(folder):
    """An origin with line ends, Markdown, HTML or escape sequences makes nothing but its text."""
    shared = dataclasses.replace(
        share.read(folder), origin="a`\n# Title\n<script>x</script>\x1b[2J[a](http://b)"
    )
    card = share.card(shared, {"feature_dim": 8, "num_classes": 0, "detector": "d\n![x](y)"})
    line = next(line for line in card.splitlines() if line.startswith("- from: "))
    assert line == r"- from: `a' # Title <script>x</script>\x1b[2J[a](http://b)`, step 3"
    assert "8-d of `d ![x](y)` (0 classes)" in card
    assert [line for line in card.splitlines() if line.startswith("# ")] == [card.splitlines()[0]]
