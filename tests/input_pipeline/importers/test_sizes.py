"""--sizes: under which names images are found, and under which they are not."""

import pytest

from core.errors import DataError
from input_pipeline.importers.formats.sizes import lookup, read_sizes

COCO = "COCO_val2014_000000000042"


@pytest.mark.parametrize(
    ("key", "found", "missing"),
    [
        ("42", ["42", "000042", COCO, f"val2014/{COCO}.jpg", "flickr30k_42", "val/42.jpg"],
         ["142", "4", "dev-42", "42b"]),
        (COCO, ["42", "000000000042", f"{COCO}.jpg", f"train/{COCO}"], ["43", "dev-42"]),
        ("train/42.jpg", ["train/42", "42"], ["val/42", "train/142"]),
        ("dev-42-0-img0", ["dev-42-0-img0", "dev-42-0-img0.png"], ["0", "42", "dev-42-0-img1"]),
        ("0", ["0", "000", "a_0"], ["img0", "a0"]),
    ],
)  # fmt: skip
def test_names(tmp_path, key, found, missing):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{key}\t40\t60\nother\t1\t2\n".encode())
    sizes = read_sizes(str(path))
    for name in found:
        assert lookup(sizes, name, "w") == (40, 60), name
    for name in missing:
        with pytest.raises(DataError, match=r"(?s)is not in --sizes, whose names are like"):
            lookup(sizes, name, "w")


def test_names_of_several_sizes_find_none(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '\ufeff{"id": "train/7", "height": 1, "width": 2}\n'
        '{"id": "val/7", "height": 3, "width": 4}\n'
    )
    sizes = read_sizes(str(tmp_path / "a.jsonl"))
    assert sizes.find("train/7") == (1, 2)
    assert sizes.find("val/000007") is None
    assert sizes.find("7") is None
    (tmp_path / "b.json").write_bytes("[]".encode("utf-16"))
    with pytest.raises(DataError, match=r"not UTF-8|UTF-16"):
        read_sizes(str(tmp_path / "b.json"))
