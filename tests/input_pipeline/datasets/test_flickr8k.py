"""Flickr8k: the token file and its lists, or Karpathy's file in, captions out."""

import json
import shutil

import pytest
from made_data import REAL

from core.errors import DataError
from input_pipeline.datasets import flickr8k
from input_pipeline.datasets.records import Caption

LINES = "b_1.jpg#0\tA dog  runs .\na_2.jpg#0\tA cat .\nb_1.jpg#1\tIt runs .\nc_3.jpg.1#0\tOut .\n"


def write(folder, lines=LINES, **lists):
    (folder / "Flickr8k.token.txt").write_text(lines)
    for name, images in lists.items():
        (folder / f"Flickr_8k.{name}Images.txt").write_text("\n".join(images) + "\n")
    return str(folder)


def read(folder, split):
    return list(flickr8k.records(str(folder), split))


def test_token_file_and_lists(tmp_path):
    write(tmp_path, train=["b_1.jpg"], dev=["a_2.jpg"], test=["a_2.jpg", "d_4.jpg"])
    dog, runs = Caption("b_1#0", "b_1", "A dog runs ."), Caption("b_1#1", "b_1", "It runs .")
    assert read(tmp_path, "train") == [dog, runs]
    assert read(tmp_path, "val") == [Caption("a_2#0", "a_2", "A cat .")]
    assert [caption.image_id for caption in read(tmp_path, "full")] == [
        "b_1",
        "a_2",
        "b_1",
        "c_3.jpg.1",
    ]
    with pytest.raises(DataError, match=r"(?s)no captions.*testImages\.txt:2.*'d_4'.*1 of 2"):
        read(tmp_path, "test")
    assert flickr8k.image_name("b_1") == "flickr8k:b_1"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("b_1.jpg#0 A dog\n", r"number of columns.*txt:1"),
        ("b_1.jpg\tA dog\n", r"'caption number' is no number.*txt:1"),
        ("b_1.jpg#0\t \n", r"caption is empty.*txt:1"),
        ("b_1.jpg#0\tA dog\nb_1.jpg#0\tA dog\n", r"caption id occurs twice.*txt:2"),
    ],
)
def test_bad_lines(tmp_path, lines, message):
    with pytest.raises(DataError, match=rf"(?s){message}"):
        read(write(tmp_path, lines), "full")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(
        DataError, match=r"(?s)missing.*Flickr8k\.token\.txt or dataset_flickr8k\.json or captions"
    ):
        read(tmp_path, "train")
    with pytest.raises(DataError, match=r"(?s)missing.*Flickr_8k\.devImages\.txt"):
        read(write(tmp_path), "val")


def test_karpathys_file_alone(tmp_path):
    image = dict(filename="b_1.jpg", split="train", sentences=[dict(raw="A dog.", sentid=7)])
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps(dict(images=[image])))
    assert read(tmp_path, "train") == [Caption("7", "b_1", "A dog.")]
    assert read(tmp_path, "val") == []


def test_captions_as_kaggle_has_them(tmp_path):
    (tmp_path / "captions.txt").write_text(
        'image,caption\nb_1.jpg,"A dog , it  runs ."\na_2.jpg,"A ""cat"" ."\nb_1.jpg,It runs .\n'
    )
    assert read(tmp_path, "full") == [
        Caption("b_1#0", "b_1", "A dog , it runs ."),
        Caption("a_2#0", "a_2", 'A "cat" .'),
        Caption("b_1#1", "b_1", "It runs ."),
    ]
    (tmp_path / "Flickr_8k.devImages.txt").write_text("a_2.jpg\n")
    assert [caption.text_id for caption in read(tmp_path, "val")] == ["a_2#0"]
    write(tmp_path)  # the official file comes first
    assert len(read(tmp_path, "full")) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,caption\nb_1.jpg,A dog, it runs\n", r"number of columns.*txt:2"),
        ("image,comment\nb_1.jpg,A dog\n", r"lacks a column.*txt:1"),
        ("image,caption\nb_1.jpg, \n", r"caption is empty.*txt:2"),
        ("image,caption\n,A dog\n", r"image is empty.*txt:2"),
    ],
)
def test_bad_rows_of_kaggles_file(tmp_path, text, message):
    (tmp_path / "captions.txt").write_text(text)
    with pytest.raises(DataError, match=rf"(?s){message}"):
        read(tmp_path, "full")


@pytest.mark.skipif(not (REAL / "flickr8k").is_dir(), reason=f"no real data at {REAL}")
def test_real_files(tmp_path):
    for path in (REAL / "flickr8k").glob("Flickr*.txt"):
        shutil.copy(path, tmp_path)
    counts = {split: len(read(tmp_path, split)) for split in flickr8k.SPLITS}
    assert counts == {"full": 40460, "train": 30000, "val": 5000, "test": 5000}
