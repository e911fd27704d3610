"""Conceptual Captions: Google's TSV files and VL-BERT's lists in, captions out."""

import gzip
import json
import zlib

import pytest
from made_data import ASSEMBLE, REAL, SPEC, image, write_images
from official_data import config

from core.errors import DataError
from input_pipeline.datasets import conceptual_captions
from input_pipeline.datasets.reading import stretches
from input_pipeline.datasets.records import Caption
from input_pipeline.streams import pipeline
from input_pipeline.texts import table_writer

TRAIN = "Train_GCC-training.tsv"
ROWS = [("a dog  runs .", "http://a.b/c?d=é"), ("a cat", "http://x"), ("a cat", "http://x")]
real = pytest.mark.skipif(not (REAL / "cc3m_val").is_dir(), reason=f"no real data at {REAL}")


def write(folder, data=None, name=TRAIN):
    if data is None:
        data = "".join(f"{caption}\t{url}\n" for caption, url in ROWS).encode()
    (folder / name).write_bytes(data)
    return str(folder)


def read(folder, split="train", **options):
    return list(conceptual_captions.records(str(folder), split, **options))


def test_ids_by_url_or_by_row(tmp_path):
    write(tmp_path)
    crc = str(zlib.crc32(b"http://x"))
    assert read(tmp_path)[1:] == [
        Caption("00000001", crc, "a cat"),
        Caption("00000002", crc, "a cat"),
    ]
    first, *_ = read(tmp_path, indexing="row")
    assert first == Caption("00000000", "00000000", "a dog runs .")
    assert conceptual_captions.image_name("7") == "conceptual_captions:7"


def test_rows_count_blank_lines_and_files_may_be_packed(tmp_path):
    data = b"a\tu\n\nb\tv\r\nc\tw"
    write(tmp_path, data)
    expected = read(tmp_path, indexing="row")
    assert [record.text_id for record in expected] == ["00000000", "00000002", "00000003"]
    (tmp_path / TRAIN).unlink()
    write(tmp_path, gzip.compress(data), "GCC-training.tsv.gz")  # as named in Google's bucket
    assert read(tmp_path, indexing="row") == expected


def test_lists_of_vlbert(tmp_path):
    image = "train_image.zip@/{:08d}.jpg"
    items = [
        {"image": image.format(i), "caption": ["a", "dog", str(i)], "frcnn": f"x/{i}.json"}
        for i in (12, 3)
    ]
    write(tmp_path, "\n".join(map(json.dumps, items)).encode(), "train_frcnn.json")
    assert read(tmp_path, "train_frcnn", indexing="row") == [
        Caption("00000012", "00000012", "a dog 12"),
        Caption("00000003", "00000003", "a dog 3"),
    ]
    with pytest.raises(DataError, match=r"(?s)unknown indexing.*train_frcnn.*'row'.*'crc32'"):
        read(tmp_path, "train_frcnn")
    write(tmp_path, "\n".join(map(json.dumps, items + items)).encode(), "train_frcnn.json")
    with pytest.raises(DataError, match=r"(?s)image occurs twice.*frcnn\.json:3.*00000012"):
        read(tmp_path, "train_frcnn", indexing="row")


BAD = {
    "column": (b"a\tu\nno tab\n", r"(?s)number of columns.*tsv:2.*caption, url.*1: 'no tab'"),
    "columns": (b"a\tu\tv\n", r"(?s)number of columns.*tsv:1.*found: 3"),
    "empty": (b"a\tu\n \tu\n", r"(?s)caption is empty.*tsv:2"),
    "both empty": (b"a\tu\n\t\n", r"(?s)url is empty.*tsv:2"),
    "url": (b"a\t\n", r"(?s)url is empty.*tsv:1"),
    "latin": (b"a\tu\ncaf\xe9\tu\n", r"(?s)not UTF-8.*tsv:2.*byte 3"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_lines_name_file_and_line(tmp_path, name):
    data, message = BAD[name]
    write(tmp_path, data)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "other.tsv").touch()
    with pytest.raises(DataError, match=r"(?s)missing.*Validation_GCC-1\.1\.0.*other\.tsv"):
        read(tmp_path, "validation")
    with pytest.raises(DataError, match=r"(?s)missing.*no such folder"):
        read(tmp_path / "nowhere")
    write(tmp_path)
    with pytest.raises(DataError, match=r"(?s)unknown indexing.*crc32.*row.*'url'"):
        read(tmp_path, indexing="url")
    packed = gzip.compress(b"a\tu\n" * 9)
    write(tmp_path, packed[:-9], "Validation_GCC-1.1.0-Validation.tsv.gz")
    with pytest.raises(DataError, match=r"(?s)cannot be read.*tsv\.gz"):
        read(tmp_path, "validation")


def stretched(path, indexing, size):
    return [
        item
        for stretch in stretches.of_file(path, size)
        for item in conceptual_captions._numbered(path, indexing, stretch)
    ]


@pytest.mark.parametrize("size", [1, 20, 10**6])
def test_stretches_cover_a_file_once(tmp_path, size):
    write(tmp_path, b"a\tu\n\nb\tv\r\n  \nc\tw\nlonger than the others\tx")
    made = stretched(str(tmp_path / TRAIN), "row", size)
    assert made == list(enumerate(read(tmp_path, indexing="row")))


def stream_of(tmp_path, rows, lines, **data):
    """The training stream of a file of so many lines over a store with the rows named."""
    folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    write(folder, "".join(f"a dog {i}\thttp://{i}\n" for i in range(lines)).encode())
    ids = [f"{row:08d}" for row in rows]
    write_images(folder / "store", SPEC, *((name, image(i, 1)) for i, name in enumerate(ids)))
    data = dict(indexing="row", manual_dir=str(folder), on_missing="skip") | data
    return pipeline.build_streams(
        config(folder, "conceptual_captions", **data), ASSEMBLE, image_margin=0
    )


def test_rows_of_a_store_that_the_file_lacks_are_refused(tmp_path, capsys):
    made = stream_of(tmp_path, (0, 2, 4), 5, train_split="train")["captions"]
    assert made.num_examples == 3  # urls die: a store may lack rows
    told = capsys.readouterr()
    assert "the train file has 5 lines, the published one 3,318,333" in told.out + told.err
    message = r"(?s)rows that the file lacks.*'train'.*at least 6 lines.*00000005.*found: 5 lines"
    with pytest.raises(DataError, match=message):
        stream_of(tmp_path, (0, 2, 5), 5, train_split="train")
    with pytest.raises(DataError, match=r"(?s)number their rows alike.*'train\+train_frcnn'"):
        conceptual_captions.check_store("train+train_frcnn", [], [], indexing="row")
    conceptual_captions.check_store("train_frcnn", ["00000001"], ["00000007"], indexing="row")
    conceptual_captions.check_store("train", ["1"], ["00000007"])  # by url


def test_lines_are_counted_for_the_time_that_is_left(tmp_path, monkeypatch):
    write(tmp_path, b"a\tu\n\nb\tv\r\nc\tw")
    assert conceptual_captions.count(str(tmp_path), "train") == 4
    totals = []

    class Recorded(table_writer.Progress):
        def __init__(self, label, total=None, **options):
            totals.append(total)
            super().__init__(label, total, **options)

    monkeypatch.setattr(table_writer, "Progress", Recorded)
    stream_of(tmp_path, (0, 2, 4), 5, train_split="train")
    assert totals == [5]


@real
def test_real_validation_split():
    folder = REAL / "cc3m_val"
    records = read(folder, "validation")
    assert len(records) == 15833
    assert records[0].text == "author : a life in photography -- in pictures"
    assert len({record.image_id for record in records}) == 15832  # one url twice
    (path,) = conceptual_captions.files(str(folder), "validation")
    assert stretched(path, "crc32", 100_000) == list(enumerate(records))
