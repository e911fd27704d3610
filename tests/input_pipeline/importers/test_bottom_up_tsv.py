"""Bottom-up-attention TSV: all column orders, what it refuses, and the real file."""

import base64
import csv
import struct
import sys

import numpy as np
import pytest
from made_data import REAL, F, image, leftovers
from tsv import CLASSES, LXMERT, LXMERT_CLASSES, OPTIONS, PLAIN, blob, cells, line, write

from core.errors import DataError
from input_pipeline.importers import bottom_up_tsv, run
from input_pipeline.importers.bottom_up_tsv import ORDERS, VOLTA
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore


def layout(path, **options):
    return bottom_up_tsv.Layout([path], **{**OPTIONS, "float_dtype": "float32", **options})


def items(path, size=10**9, **options):
    made = layout(path, **options)
    return [
        made.parse(where, raw) for part in made.parts(size) for where, raw in made.entries(part)
    ]


def same(item, i, rtol=0, classes=False):
    made = image(i)
    assert (item.image_id, item.height, item.width) == (str(i), made["height"], made["width"])
    np.testing.assert_allclose(item.boxes, made["boxes"], rtol=rtol)
    np.testing.assert_allclose(item.features, made["features"], rtol=rtol, atol=rtol)
    assert (item.class_probs is not None) == classes
    if classes:
        np.testing.assert_allclose(item.class_probs, made["class_probs"], rtol=max(rtol, 1e-6))


@pytest.mark.parametrize("order", ORDERS, ids=["6", "7", "10 original", "10 LXMERT", "11"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_orders(tmp_path, order, end):
    path = write(tmp_path / "a.tsv", [line(order, i) for i in range(5)], end)
    for i, item in zip(range(5), items(path), strict=True):
        same(item, i, classes="cls_prob" in order)
    done = run.convert("bottom_up_tsv", [path], tmp_path / "s", ImportSettings(options=OPTIONS))
    spec = done.spec
    assert (done.images, spec.feature_dim, spec.global_feature) == (5, F, "mean")
    expected = (5, 0) if "cls_prob" in order else (0, None)
    assert (spec.num_classes, spec.background_class) == expected


def test_thirteen_columns_of_volta(tmp_path):
    more = {"attrs": blob(np.ones((2, 7))), "classes": blob(np.ones((2, 9)))}
    path = write(tmp_path / "a.tsv", [line(VOLTA, i, **more) for i in range(4)])
    for i, item in zip(range(4), items(path), strict=True):
        same(item, i, classes=True)


def test_byte_order_marks(tmp_path):
    path = tmp_path / "a.tsv"
    text = b"\n".join(line(PLAIN, i) for i in range(3)) + b"\n"
    path.write_bytes(b"\xef\xbb\xbf" + text)
    for i, item in zip(range(3), items(str(path), size=300), strict=True):
        same(item, i)
    path.write_bytes(text.decode("latin1").encode("utf-16"))
    with pytest.raises(DataError, match=r"(?s)UTF-16.*a\.tsv.*iconv"):
        layout(str(path))


def test_the_last_line_may_lack_its_end_and_blank_lines_are_none(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(line(PLAIN, 0) + b"\n\n\r\n" + line(PLAIN, 1))
    found = items(str(path))
    assert len(found) == 2
    same(found[1], 1)


@pytest.mark.parametrize(("dtype", "rtol"), [("<f2", 2e-2), ("<f8", 0)])
def test_other_floats(tmp_path, dtype, rtol):
    name = np.dtype(dtype).name
    path = write(tmp_path / "a.tsv", [line(CLASSES, i, dtype=dtype) for i in range(3)])
    for i, item in zip(range(3), items(path, float_dtype=name), strict=True):
        same(item, i, rtol, classes=True)
    with pytest.raises(
        DataError, match=rf"'boxes' has the wrong length(?s:.*)would be 1 x 4 {name}"
    ):
        items(path)


def test_text_of_python_bytes(tmp_path):
    row = {name: b"b'" + cells(0)[name] + b"'" for name in ("image_id", "boxes", "features")}
    path = write(tmp_path / "a.tsv", [line(PLAIN, 0, **row)])
    same(items(path)[0], 0)


@pytest.mark.parametrize("size", [1, 50, 333, 1000, 10**6])
def test_any_parts_give_every_line_once(tmp_path, size):
    path = write(tmp_path / "a.tsv", [line(LXMERT, i) for i in range(9)])
    assert [item.image_id for item in items(path, size)] == [str(i) for i in range(9)]


BAD = {
    "num_boxes": (dict(num_boxes=b"2.5"), "'num_boxes' is no whole number.*b'2.5'"),
    "negative": (dict(image_h=b"-3"), "'image_h' is no whole number"),
    "size 0": (dict(image_w=b"0"), "image size is out of range"),
    "no base64": (dict(features=b"@@@@"), "'features' is no base64.*4 characters"),
    "cut base64": (dict(features=blob(np.ones((2, F)))[:-3]), "'features' is no base64.*cut short"),
    "boxes short": (dict(boxes=blob(np.ones((1, 4)))), "'boxes' has the wrong length.*32 bytes"),
    "features short": (
        dict(features=blob(np.ones((2, 3)))),
        "'features' has the wrong length.*48 bytes = 2 boxes x 6.*24 bytes.*2 x 3 float32.*"
        "2 x 6 float16.*--feature_dim",
    ),
    "cls_prob short": (dict(cls_prob=blob(np.ones((2, 3)))), "'cls_prob' has.*--num_classes"),
    "id": (dict(image_id=b""), "image id"),
    "not UTF-8": (dict(image_id=b"\xff\xfe"), "not UTF-8"),
    "no boxes": (
        dict(num_boxes=b"0", boxes=b"", features=b"", cls_prob=b""),
        "number of regions is out of range.*1 to 9.*found: 0",
    ),
    "many boxes": (dict(n=10), "number of regions is out of range.*found: 10"),
    "swapped": (dict(boxes=blob([[9, 9, 1, 1], [0, 0, 1, 1]])), "box 0 has its corners swapped"),
    "outside": (dict(boxes=blob([[0, 0, 1, 1], [-9, 0, 1, 1]])), "box 1 lies outside its image"),
    "nan": (dict(features=blob(np.full((2, F), np.nan))), "not finite"),
    "sum": (dict(cls_prob=blob(np.ones((2, 5)))), "no distribution"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_lines_are_refused_or_left_out(tmp_path, name):
    changed, message = BAD[name]
    bad = line(CLASSES, 1, **{"n": 2, **changed})
    path = write(tmp_path / "a.tsv", [line(CLASSES, 0), bad, line(CLASSES, 2)])
    arguments = dict(options=OPTIONS, max_regions=9)
    with pytest.raises(DataError, match=f"(?s){message}.*") as error:
        run.convert("bottom_up_tsv", [path], tmp_path / "s", ImportSettings(**arguments))
    assert f"{path}, byte {len(line(CLASSES, 0)) + 1}" in str(error.value)
    assert leftovers(tmp_path) == ["a.tsv"]
    done = run.convert(
        "bottom_up_tsv", [path], tmp_path / "s", ImportSettings(**arguments, on_bad="skip")
    )
    assert (done.images, done.skipped) == (2, 1)
    assert RegionStore.open(tmp_path / "s").keys == ["0", "2"]


def test_other_files_are_refused(tmp_path):
    good, path = write(tmp_path / "good.tsv", [line(PLAIN, 0)]), tmp_path / "bad"
    header = b"\t".join(name.encode() for name in PLAIN)
    for content in (b"", b"a,b,c\n", b"\x1f\x8b" + bytes(50), header + b"\n" + line(PLAIN, 0)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"(?s)not a bottom-up-attention TSV.*bad, byte 0"):
            run.convert(
                "bottom_up_tsv", [good, str(path)], tmp_path / "s", ImportSettings(options=OPTIONS)
            )
    with pytest.raises(DataError, match=r"(?s)cannot be read.*nowhere"):
        run.convert("bottom_up_tsv", [good, str(tmp_path / "nowhere")], tmp_path / "s")
    assert leftovers(tmp_path) == ["bad", "good.tsv"]


def test_files_of_two_widths(tmp_path):
    a = write(tmp_path / "a.tsv", [line(CLASSES, 0)])
    b = write(tmp_path / "b.tsv", [line(PLAIN, 1)])
    with pytest.raises(
        DataError, match=r"(?s)class_probs and the feature spec disagree.*b\.tsv"
    ) as e:
        run.convert("bottom_up_tsv", [a, b], tmp_path / "s", ImportSettings(options=OPTIONS))
    assert "1 of 2 parts are finished" in e.value.__notes__[0]
    assert not (tmp_path / "s").exists()


def test_a_line_of_another_order_is_refused(tmp_path):
    path = write(tmp_path / "a.tsv", [line(LXMERT_CLASSES, 0), line(LXMERT, 1)])
    with pytest.raises(DataError, match=r"(?s)wrong number of columns.*11: image_id.*10: b'1"):
        items(path)


def test_a_file_cut_anywhere_gives_whole_images_or_an_error(tmp_path):
    whole = b"".join(line(LXMERT_CLASSES, i) + b"\n" for i in range(2))
    path, refused = tmp_path / "a.tsv", 0
    first = len(line(LXMERT_CLASSES, 0))
    for keep in range(first, len(whole)):  # within the first line, its order of columns may change
        path.write_bytes(whole[:keep])
        try:
            found = items(str(path))
        except DataError:
            refused += 1
            continue
        assert keep in (first, first + 1, len(whole) - 1)
        for i, item in enumerate(found):
            same(item, i, classes=True)
    assert refused == len(whole) - first - 3


def test_flipped_bytes_never_break_the_reader(tmp_path):
    whole = line(CLASSES, 0) + b"\n" + line(CLASSES, 1) + b"\n"
    path, refused = tmp_path / "a.tsv", 0
    for at in range(0, len(whole), 3):
        for bit in (1, 128):
            data = bytearray(whole)
            data[at] ^= bit
            path.write_bytes(data)
            try:
                for item in items(str(path)):
                    assert item.features.shape == (len(item.boxes), F)
            except DataError:
                refused += 1
    assert refused > len(whole) / 3


@pytest.mark.skipif(
    not (REAL / "bottom_up" / "train2014_obj36.tsv").is_file(), reason=f"no real data at {REAL}"
)
def test_the_real_file(tmp_path):
    path = REAL / "bottom_up" / "train2014_obj36.tsv"
    names = ["id", "h", "w", "o", "oc", "a", "ac", "n", "boxes", "features"]
    csv.field_size_limit(sys.maxsize)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", fieldnames=names))
    done = run.convert(
        "bottom_up_tsv",
        [str(path)],
        tmp_path / "s",
        ImportSettings(dtype="float32", ids="number", part_size=10**6),
    )
    assert done.images == len(rows) == 10
    store = RegionStore.open(tmp_path / "s")
    assert store.keys == [str(int(row["id"].rpartition("_")[2])) for row in rows]
    out = store.allocate(10, 1, 37)
    store.read_into(out, np.arange(10)[:, None])
    for i, row in enumerate(rows):
        assert (store.heights[i], store.widths[i]) == (int(row["h"]), int(row["w"]))
        for name, key in (("boxes", "boxes"), ("features", "regions")):
            data = base64.b64decode(row[name])
            numbers = struct.unpack(f"<{len(data) // 4}f", data)
            expected = np.asarray(numbers).reshape(36, -1)
            np.testing.assert_allclose(out[key][i, 0, 1:], expected, atol=1e-4, rtol=0)
        mean = expected.mean(0)
        np.testing.assert_allclose(out["regions"][i, 0, 0], mean, atol=1e-5)
