"""Own data without code: JSONL files, good and bad."""

import json

import pytest
from made_data import ASSEMBLE, REAL, captions, config, leftovers, write_all, write_jsonl
from ml_collections import ConfigDict

from core.errors import DataError
from input_pipeline.datasets import jsonl
from input_pipeline.datasets.reading import text_corpus
from input_pipeline.importers import run
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.streams import pipeline
from input_pipeline.texts.table_writer import Row, Skipped

KEYS = ConfigDict({"image_id": "image_id", "text": "text", "split": ""})


def read(path, split="", on_missing="error", keys=KEYS):
    return list(jsonl.read([str(path)], keys, split, on_missing))


def test_texts_and_lists(tmp_path):
    path = write_jsonl(
        tmp_path / "a.jsonl",
        [
            {"image_id": "x", "text": "one"},
            {"image_id": 7, "text": ["two", "three"], "more": 1},
            {"image_id": "x", "text": ["four"]},
        ],
    )
    assert read(path) == [
        Row("x", "one", "x#0"),
        Row("7", "two", "7#0"),
        Row("7", "three", "7#1"),
        Row("x", "four", "x#1"),
    ]


def test_other_keys_and_splits(tmp_path):
    keys = ConfigDict({"image_id": "img", "text": "caps", "split": "part"})
    path = write_jsonl(
        tmp_path / "a.jsonl",
        [{"img": i, "caps": f"t{i}", "part": "dev" if i % 3 else "fit"} for i in range(5)],
    )
    assert [row.image_id for row in read(path, "fit", keys=keys)] == ["0", "3"]
    assert [row.image_id for row in read(path, "dev", keys=keys)] == ["1", "2", "4"]


BAD = {
    "json": ('{"image_id": "a", "text": ', r"malformed JSON.*column"),
    "list": ('["a"]', r"no object"),
    "image": (
        '{"text": "a dog"}',
        r"'image_id' is missing.*found: \['text'\].*json_keys\.image_id",
    ),
    "image type": ('{"image_id": 1.5, "text": "a"}', r"neither text nor a whole number.*1\.5"),
    "no text": ('{"image_id": "a", "caption": "b"}', r"no text.*'text'.*caption.*json_keys\.text"),
    "text type": ('{"image_id": "a", "text": [1]}', r"is no text.*list of strings.*\[1\]"),
    "empty": ('{"image_id": "a", "text": ["ok", "  "]}', r"a text is empty.*one word.*'  '"),
    "empty list": ('{"image_id": "a", "text": []}', r"row has no text"),
    "latin": (b'{"image_id": "a", "text": "caf\xe9"}', r"not UTF-8.*byte"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_lines_name_file_and_line(tmp_path, name):
    line, message = BAD[name]
    line = line if isinstance(line, bytes) else line.encode()
    good = json.dumps(captions(1)[0]).encode()
    write_all(tmp_path)
    (tmp_path / "captions.jsonl").write_bytes(good + b"\n\n" + line + b"\n" + good + b"\n")
    before = leftovers(tmp_path)
    with pytest.raises(DataError, match=rf"(?s){message}") as error:
        pipeline.build_streams(config(tmp_path), ASSEMBLE, image_margin=0)
    text = str(error.value)
    assert f"{tmp_path}/captions.jsonl:3" in text
    assert "expected:" in text
    assert "found:" in text
    assert leftovers(tmp_path) == before  # no vocabulary, no table
    if name in ("no text", "empty", "empty list"):
        rows = read(tmp_path / "captions.jsonl", on_missing="skip")
        (skipped,) = [row for row in rows if isinstance(row, Skipped)]
        assert "captions.jsonl:3" in skipped.text_id
    else:  # what is broken is never skipped
        with pytest.raises(DataError, match=rf"(?s){message}"):
            read(tmp_path / "captions.jsonl", on_missing="skip")


def test_files_that_are_not_there(tmp_path):
    write_all(tmp_path)
    with pytest.raises(DataError, match=r"(?s)nowhere\.jsonl.*No such file"):
        pipeline.build_streams(
            config(tmp_path, annotations="nowhere.jsonl"), ASSEMBLE, image_margin=0
        )
    with pytest.raises(DataError, match=r"(?s)no annotations.*data\.annotations"):
        pipeline.build_streams(config(tmp_path, annotations=""), ASSEMBLE, image_margin=0)
    with pytest.raises(DataError, match=r"spec\.json"):
        pipeline.build_streams(config(tmp_path, regions=str(tmp_path)), ASSEMBLE, image_margin=0)


def test_evaluation_file_and_named_vocabulary(tmp_path, capsys):
    write_all(tmp_path)
    held_out = write_jsonl(tmp_path / "dev.jsonl", captions(3, 1))
    tree = config(tmp_path, eval_annotations=held_out)
    stream = pipeline.build_evaluation(tree, "captions", ASSEMBLE, batch_size=2, image_margin=0)
    assert (stream.num_examples, stream.steps_per_epoch) == (3, 2)
    assert capsys.readouterr().out.count("trained a vocabulary") == 1
    data = pipeline.Data(tree.data)  # trained once
    assert "trained" not in capsys.readouterr().out
    again = config(tmp_path, vocab=data.prepared.vocab)
    assert pipeline.Data(again.data).special == data.special


def test_a_carriage_return_alone_ends_a_line_of_a_corpus(tmp_path):
    path = tmp_path / "old.txt"
    path.write_bytes("one\rtwo\r\n\r\nthr\u00e9\u2028e\r\rfour\n".encode())
    with open(path, encoding="utf-8") as file:
        expected = [
            (f"old.txt:{n}", line.strip()) for n, line in enumerate(file, 1) if line.strip()
        ]
    assert [(row.text_id, row.text) for row in text_corpus.rows([str(path)])] == expected
    assert [text for _, text in expected] == ["one", "two", "thr\u00e9\u2028e", "four"]
    plain = tmp_path / "plain.txt"
    plain.write_bytes(b"one\r\ntwo\r\n")
    assert text_corpus.corpus_fingerprint([str(plain)]) == text_corpus.fingerprint([str(plain)])
    assert text_corpus.corpus_fingerprint([str(path)]) != text_corpus.fingerprint([str(path)])
    path.write_bytes(b"one\rtw\xe9\n")
    with pytest.raises(DataError, match=r"(?s)not UTF-8.*old\.txt:2"):
        list(text_corpus.rows([str(path)]))


def test_corpus_lines(tmp_path):
    path = tmp_path / "c.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\n two \nthr\xc3\xa9e")
    assert list(text_corpus.lines(path)) == [(1, "one"), (3, "two"), (4, "thrée")]
    rows = list(text_corpus.rows([path, path]))
    assert [(row.text_id, row.source) for row in rows][2:4] == [("c.txt:4", 0), ("c.txt:1", 1)]
    before = text_corpus.fingerprint([path])
    path.write_bytes(b"one\nbad \xff\n")
    assert text_corpus.fingerprint([path]) != before
    with pytest.raises(DataError, match=r"(?s)not UTF-8.*c\.txt:2"):
        list(text_corpus.lines(path))


def test_real_data(tmp_path, capsys):
    files = [REAL / "regions" / name for name in ("coco_mini.npz", "coco_extra.npz")]
    if not all(path.is_file() for path in (*files, REAL / "index.jsonl")):
        pytest.skip(f"no real data at {REAL} (set VL_DATA_DIR_REAL)")
    run.convert(
        "npz",
        [str(path) for path in files],
        tmp_path / "store",
        ImportSettings(detector="coco-ssd"),
    )
    tree = config(
        tmp_path,
        batch=15,
        annotations=str(REAL / "index.jsonl"),
        json_keys={"image_id": "image", "text": "captions", "split": "split"},
        eval_split="test",
        vocab_size=1500,
        on_missing="skip",
    )
    catalog = pipeline.DataCatalog(tree)
    data = catalog.of("captions")
    assert (len(data.store), data.spec.feature_dim, data.spec.num_classes) == (281, 1280, 81)
    stream = pipeline.build_streams(tree, ASSEMBLE, catalog=catalog, image_margin=0)["captions"]
    held_out = pipeline.build_evaluation(
        tree, "captions", ASSEMBLE, batch_size=43, catalog=catalog, image_margin=0
    )
    assert (stream.num_examples, held_out.num_examples) == (750, 215)
    assert "74 rows without text, 0 texts without regions" in capsys.readouterr().out
    for draw in range(held_out.steps_per_epoch):
        batch = held_out.batch(draw)
        assert (batch["region_class_probs"][..., 0][batch["region_mask"]][1:] >= 0).all()
        assert (batch["num_detected"] >= 10).all()
    tree.data.on_missing = "error"
    with pytest.raises(DataError, match=r"index\.jsonl:\d+"):
        pipeline.build_streams(tree, ASSEMBLE, image_margin=0)
