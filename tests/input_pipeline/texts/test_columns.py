"""Columns in files: the values, around the end, too; and what happens to the file meanwhile."""

import json
import os

import numpy as np
import pytest

from core.errors import DataError
from input_pipeline.texts import columns
from input_pipeline.texts.rows import Row
from input_pipeline.texts.tables import TextTable, build_table
from input_pipeline.texts.tokenizer import SPECIALS, Tokenizer


@pytest.fixture(autouse=True)
def in_the_file(monkeypatch):
    """Columns are longer than what is held in memory."""
    monkeypatch.setattr(columns, "HELD", 0)


@pytest.fixture
def column(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "BLOCK", 16)
    values = np.arange(1003, dtype=np.int32)
    values.tofile(tmp_path / "ids.bin")
    return values, columns.Column(tmp_path / "ids.bin", values.dtype), tmp_path / "ids.bin"


@pytest.mark.parametrize("held", [0, 10_000])
def test_values_are_those_of_the_file(column, monkeypatch, held):
    values, found, path = column
    monkeypatch.setattr(columns, "HELD", held)
    if held:
        found = columns.Column(path, values.dtype)
        path.write_bytes(b"of no use any more")
    assert len(found) == 1003
    assert found[5:5].size == 0
    for start, stop in ((0, 1), (3, 5), (0, 1003), (999, 1003), (1002, 1003)):
        assert found[start:stop].tolist() == values[start:stop].tolist()
    starts = np.array([0, 3, 1000, 1002, 7])
    for width in (1, 9, 2500):
        expected = values[(starts[:, None] + np.arange(width)) % 1003]
        assert np.array_equal(found.rows(starts, width), expected)
    monkeypatch.setattr(columns, "_PART", 400)
    assert np.concatenate([part for _, part in found.parts()]).tolist() == values.tolist()
    assert [start for start, _ in found.parts()][:3] == [0, 100, 200]


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "grow"])
def test_a_file_that_changes_is_told_where_it_is_read_and_never_used(column, harm):
    values, found, path = column
    data = path.read_bytes()
    changed = dict(
        flip=data[:4000] + b"\xff" + data[4001:], cut=data[:3990], empty=b"", grow=data + b"x"
    )[harm]
    path.write_bytes(changed)
    if harm != "empty":
        assert found[0:900].tolist() == values[:900].tolist()
    if harm == "grow":
        assert found[0:1003].tolist() == values.tolist()
        return
    for read in (lambda: found[997:1001], lambda: found.rows(np.array([998]), 9)):
        with pytest.raises(DataError, match="has changed while it was in use"):
            read()


def test_a_file_in_another_place_or_gone_is_read_on(column):
    values, found, path = column
    (path.parent / "other").write_bytes(b"another")
    os.replace(path.parent / "other", path)
    assert found[0:1003].tolist() == values.tolist()
    path.unlink()
    assert found[0:1003].tolist() == values.tolist()


def table(folder):
    pieces = [*SPECIALS.values(), *"abcdefgh"]
    rows = [Row(f"img{i}", "a b c d"[: 1 + 2 * (i % 4)], f"t{i}") for i in range(50)]
    return build_table(rows, Tokenizer(pieces, "here"), folder / "t", source="s")


def test_a_table_whose_files_change_under_it_gives_right_values_or_an_error(tmp_path):
    """Every file overwritten in place, or emptied, after the table was opened."""
    rows = np.arange(50)
    expected = table(tmp_path / "as_it_was").gather(rows, 6)
    told = 0
    names = sorted(path.name for path in (tmp_path / "as_it_was" / "t").iterdir())
    for name in names:
        for kind in ("twos", "empty"):
            opened = table(tmp_path / f"{name}-{kind}")
            path = tmp_path / f"{name}-{kind}" / "t" / name
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.truncate(0) if kind == "empty" else file.write(b"\2" * size)
            try:
                found = opened.gather(rows, 6)
                ids = [opened.text_id(row) for row in rows]
                images = [opened.images[i] for i in opened.images_of(rows)[:, 0]]
            except DataError:
                told += 1
                continue
            assert all(np.array_equal(found[key], expected[key]) for key in expected)
            assert (ids[7], images[7]) == ("t7", "img7")
    assert told == 8  # pieces, where words start, ids of texts and where these end: both ways


def test_no_damage_of_the_description_passes(tmp_path):
    path = table(tmp_path).folder / "meta.json"
    data = path.read_bytes()
    for at in range(0, len(data) - 1, 7):
        for bit in (1, 0x80):
            path.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            with pytest.raises(DataError, match="a tokenised table is damaged"):
                TextTable.open(path.parent)
    for text in (b"", b"[]", b"{}", b"null", b'{"format": 3}', b"[" * 100_000, b"\xff"):
        path.write_bytes(text)
        with pytest.raises(DataError, match="a tokenised table is damaged"):
            TextTable.open(path.parent)
    meta = json.loads(data)
    del meta["xxh3"]  # as earlier versions wrote it
    path.write_text(json.dumps(meta))
    assert len(TextTable.open(path.parent)) == 50
