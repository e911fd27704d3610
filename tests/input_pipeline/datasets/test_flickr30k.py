"""Flickr30k: the token file, Karpathy's file and Entities in, captions out."""

import json

import pytest
from made_data import REAL

from core.errors import DataError
from input_pipeline.datasets import flickr30k
from input_pipeline.datasets.records import Caption

TOKEN = "results_20130124.token"
SENTENCES = REAL / "fixtures" / "flickr30k" / "sentences"


def read(folder, split="full"):
    return list(flickr30k.records(str(folder), split))


def test_token_file(tmp_path):
    (tmp_path / TOKEN).write_text("1000092795.jpg#0\tTwo young  guys .\n0042.jpg#1\tA dog\n")
    assert read(tmp_path) == [
        Caption("1000092795#0", "1000092795", "Two young guys ."),
        Caption("42#1", "42", "A dog"),
    ]
    assert flickr30k.image_name("42") == "flickr30k:42"


BAD = {
    "column": (b"1.jpg#0 A dog\n", r"columns.*token:1.*image\.jpg#number, caption"),
    "name": (b"1.jpg#0\ta\nx.jpg#0\tb\n", r"'image' is no number.*token:2.*'x'"),
    "number": (b"1.jpg\ta\n", r"'caption number' is no number.*token:1"),
    "empty": (b"1.jpg#0\t \n", r"caption is empty.*token:1"),
    "twice": (b"1.jpg#0\ta\n01.jpg#0\tb\n", r"occurs twice.*token:2.*'1#0'.*token:1"),
    "latin": (b"1.jpg#0\tcaf\xe9\n", r"not UTF-8.*token:1"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_lines_name_file_and_line(tmp_path, name):
    data, message = BAD[name]
    (tmp_path / TOKEN).write_bytes(data)
    with pytest.raises(DataError, match=rf"(?s){message}"):
        read(tmp_path)


def test_karpathy_file(tmp_path):
    images = [
        {
            "filename": f"{i}.jpg",
            "split": "val" if i % 2 else "train",
            "sentences": [{"raw": f"a dog {i}", "sentid": i}],
        }
        for i in range(4)
    ]
    path = tmp_path / "dataset_flickr30k.json"
    path.write_text(json.dumps({"images": images}))
    assert read(tmp_path, "val") == [Caption("1", "1", "a dog 1"), Caption("3", "3", "a dog 3")]
    images[3]["sentences"][0]["sentid"] = 1
    path.write_text(json.dumps({"images": images}))
    with pytest.raises(DataError, match=r"(?s)sentence id occurs twice.*images\[3\].*images\[1\]"):
        read(tmp_path, "val")
    with pytest.raises(DataError, match=r"(?s)missing.*results_20130124"):
        read(tmp_path)


def test_entities(tmp_path):
    folder = tmp_path / "Sentences"
    with pytest.raises(DataError, match=r"(?s)missing.*Sentences.*<image>\.txt"):
        read(tmp_path, "entities")
    folder.mkdir()
    (folder / "10.txt").write_text("[/EN#1/people/other A girl] [ 2 ] sits .\nAnother .\n")
    (folder / "9.txt").write_text("[/EN#0/notvisual It] rains\n")
    girl = [Caption("10#0", "10", "A girl [ 2 ] sits ."), Caption("10#1", "10", "Another .")]
    rain = [Caption("9#0", "9", "It rains")]
    assert read(tmp_path, "entities") == rain + girl
    (tmp_path / "test.txt").write_text("10\n")
    assert read(tmp_path, "entities_test") == girl
    (tmp_path / "test.txt").write_text("10\n11\n")
    with pytest.raises(DataError, match=r"(?s)missing.*11\.txt"):
        read(tmp_path, "entities_test")
    (tmp_path / "test.txt").write_text("10\n10\n")
    with pytest.raises(DataError, match=r"(?s)same image occurs twice.*test\.txt:2"):
        read(tmp_path, "entities_test")
    (folder / "9.txt").write_text("It rains\n[/EN#0/notvisual] It\n")
    with pytest.raises(DataError, match=r"(?s)phrase is malformed.*9\.txt:2.*notvisual\]"):
        read(tmp_path, "entities")


@pytest.mark.skipif(not SENTENCES.is_dir(), reason=f"no real data at {REAL}")
def test_real_sentences():
    records = read(SENTENCES.parent, "entities")
    assert [record.image_id for record in records] == ["4945942737"] * 5 + ["6338542128"] * 5
    assert records[4].text == "A dark-haired girl is sitting on the waters edge ."
