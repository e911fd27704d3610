"""Records come back from their table as they were, all of them or a few by id."""

import dataclasses

import numpy as np
import pytest

from core.errors import DataError
from input_pipeline.datasets import records as kinds
from input_pipeline.datasets.records import table
from input_pipeline.datasets.records.table import RecordList, RecordTable

BOX = (0.5, 1.0, 7, 8.25)
MADE = [
    kinds.Caption("a", "img1", 'a "dog"\n\u2028 größe'),
    kinds.GroundedCaption("b", "img1", "a dog", (kinds.Mention(2, 5, 0),), (BOX, BOX)),
    kinds.Statement("c", ("img1", "img2"), "both", -1, ""),
    kinds.Expression("d", 7, "img3", "the dog", BOX, (BOX,)),
    kinds.Pointing("e", "img3", "where?", (BOX, BOX), (0, 1), 1),
    kinds.Question("f", "img1", "what?", (kinds.Answer("a", 0.1),), ("a", "b"), "what", "other"),
    kinds.AnnotatedQuestion("g", "img1", "what?"),
    kinds.MultipleChoice(
        "h", "img1", 9, 8, (kinds.Token("is"), kinds.Token("", (0, 1))), ((kinds.Token("x"),),) * 4,
        (), 2, -1, (kinds.ObjectBox("person", BOX, 0.3, (((0.5, 1), (2, 3.5)),)),),
    ),
    kinds.Caption("a", "img9", "of the same name"),
]  # fmt: skip


def test_every_kind_is_here():
    tested = {type(one) for one in MADE}
    here = {k for k in table._kinds() if k.__module__.startswith("input_pipeline.datasets.records")}
    assert {kind for kind in here if dataclasses.is_dataclass(kind)} == tested


def of(tmp_path, records, source="files", read=None):
    def made():
        if read is not None:
            read.append(source)
        return iter(records)

    return RecordTable(made, tmp_path, "train+val/x", lambda: source)


@pytest.mark.parametrize("chunk", [2, 4096])
def test_records_come_back(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(table, "_CHUNK", chunk)
    read = []
    for _ in range(2):
        found = of(tmp_path, MADE, read=read)
        assert [*found()] == MADE == [*found()]
        assert [repr(one) for one in found()] == [*map(repr, MADE)]
        for records in (found, RecordList(MADE)):
            some = records.find(["h", "nothing", "a", "a.jpg"])
            assert some == {"h": MADE[7], "a": MADE[0]}
            assert records.find([]) == {}
    assert read == ["files"]  # once
    assert [*of(tmp_path, MADE[:3], "other files", read)()] == MADE[:3]
    assert read == ["files", "other files"]


def test_numbers_of_numpy_become_plain_ones(tmp_path):
    record = kinds.Statement("a", ("1",), "x", np.int64(1))
    [found] = of(tmp_path, [record])()
    assert found == record
    assert type(found.label) is int


@pytest.mark.parametrize("name", ["records.bin", "index.npz", "meta.json"])
def test_a_damaged_table_is_told(tmp_path, name):
    [*_] = of(tmp_path, MADE)()
    [folder] = tmp_path.iterdir()
    assert folder.name.startswith("records-train-val-x-")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=r"(?s)table of records is damaged.*remove .*made again"):
        of(tmp_path, MADE).find(["a"])


def test_a_split_without_records_is_told(tmp_path):
    with pytest.raises(DataError, match="a split has no records"):
        of(tmp_path, []).find(["a"])
    assert not [*tmp_path.iterdir()]
