"""Parquet and Arrow tables: the ways a hub's data sets hold lists, and columns that are named."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
from layout_checks import (
    C,
    F,
    check_items,
    check_parts,
    check_refused,
    check_store,
    encoded,
    items,
    made,
)

from core.errors import DataError
from input_pipeline.importers import parquet, run
from input_pipeline.importers.settings import ImportSettings

IDS = ["9", "42", "7"]
IMAGES = [made(i) for i in range(3)]


def as_npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


# Ways to hold [n, width] numbers in a cell.
WAYS = {
    "lists": (lambda a: a.tolist(), pa.list_(pa.list_(pa.float32()))),
    "large lists": (lambda a: a.tolist(), pa.large_list(pa.large_list(pa.float32()))),
    "fixed rows": (lambda a: a.tolist(), lambda w: pa.list_(pa.list_(pa.float32(), w))),
    "one list": (lambda a: a.ravel().tolist(), pa.list_(pa.float32())),
    "bytes": (lambda a: a.astype("<f4").tobytes(), pa.binary()),
    "npy": (as_npy, pa.large_binary()),
    "base64": (encoded, pa.string()),
}


def table(way="lists", names=None, images=IMAGES, **changes):
    convert, kind = WAYS[way]
    columns = {
        "image_id": (IDS[: len(images)], pa.string()),
        "height": ([40] * len(images), pa.int64()),
        "width": ([60] * len(images), pa.int32()),
    }
    for name, field, width in (
        ("features", "features", F),
        ("boxes", "boxes", 4),
        ("cls_prob", "class_probs", C),
    ):
        type_ = kind(width) if callable(kind) else kind
        columns[name] = ([convert(image[field]) for image in images], type_)
    columns.update(changes)
    columns = {k: v for k, v in columns.items() if v is not None}
    arrays = {(names or {}).get(k, k): pa.array(v, t) for k, (v, t) in columns.items()}
    return pa.table(arrays)


def write(path, value, rows=2):
    """Parquet by groups of rows, or an Arrow file or stream by batches."""
    if path.suffix == ".parquet":
        pa.parquet.write_table(value, path, row_group_size=rows)
    else:
        new = pa.ipc.new_stream if path.suffix == ".arrow" else pa.ipc.new_file
        with new(path, value.schema) as writer:
            writer.write_table(value, max_chunksize=rows)
    return str(path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
def test_ways_to_hold_arrays(tmp_path, way, suffix):
    path = write(tmp_path / f"a{suffix}", table(way))
    layout = parquet.Layout([path])
    check_items(items(layout), IDS, IMAGES)
    check_parts(layout, (1, 10**9))


def test_a_folder_of_tables_and_the_store(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train-00000-of-00002.parquet", table().slice(0, 1))
    write(tmp_path / "data" / "train-00001-of-00002.parquet", table().slice(1), rows=1)
    (tmp_path / "data" / "dataset_info.json").write_text("{}")
    store = check_store(tmp_path / "s", "parquet", [tmp_path / "data"], IDS, IMAGES)
    assert (store.spec.num_classes, store.spec.background_class) == (C, 0)


def test_columns_that_are_named(tmp_path):
    """Names of the maker's own, structures, numbers as ids, boxes as the hub's detectors have."""
    rows = []
    for name, image in zip(IDS, IMAGES, strict=True):
        boxes = image["boxes"]
        xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        rows.append({"pic": int(name), "objects": {"bbox": xywh.tolist(), "area": [1.0]},
                     "emb": image["features"].tolist()})  # fmt: skip
    path = write(tmp_path / "a.parquet", pa.Table.from_pylist(rows))
    (tmp_path / "sizes.jsonl").write_text(
        "".join(json.dumps({"id": name, "height": 40, "width": 60}) + "\n" for name in IDS)
    )
    options = {"box_format": "xywh", "sizes": str(tmp_path / "sizes.jsonl")}
    columns = "image_id=pic,boxes=objects.bbox,features=emb"
    found = items(parquet.Layout([path], columns=columns, **options))
    images = [{**image, "features": image["features"].astype(np.float64)} for image in IMAGES]
    check_items(found, IDS, images, classes=False)
    for columns, message in {
        "": r"(?s)no column of 'image_id'.*'pic'.*--columns image_id=COLUMN",
        "image_id=pic,features=emb": r"(?s)no column of 'boxes'.*objects\.bbox.*--grid",
        "image_id=pic,features=embed": r"(?s)column of 'features' is not there.*'embed'.*'emb'",
        "pic": r"(?s)--columns cannot be read.*'pic'",
        "picture=pic": r"(?s)--columns cannot be read.*'picture=pic'",
    }.items():
        with pytest.raises(DataError, match=message):
            parquet.Layout([path], columns=columns, **options)


def test_a_grid_in_a_table(tmp_path):
    tokens = np.random.default_rng(0).standard_normal((5, F)).astype(np.float16)
    value = table(features=([tokens.tobytes()], pa.binary()), boxes=None, cls_prob=None,
                  images=IMAGES[:1])  # fmt: skip
    path = write(tmp_path / "a.parquet", value)
    # Plain bytes do not say how many tokens there are; a .npy file does.
    with pytest.raises(DataError, match="'features'"):
        items(parquet.Layout([path], grid="2x2", prefix=1, float_dtype="float16"))
    value = value.set_column(
        value.column_names.index("features"), "features", pa.array([as_npy(tokens)])
    )
    path = write(tmp_path / "b.parquet", value)
    (item,) = items(parquet.Layout([path], grid="2x2", prefix=1))
    np.testing.assert_array_equal(item.features, tokens[1:])
    np.testing.assert_array_equal(item.global_feature, tokens[0])
    assert item.boxes[3].tolist() == [30, 20, 60, 40]


RAGGED = [[1.0] * F, [1.0] * (F - 1)]
BAD = {
    "ragged": ({"features": [RAGGED] * 3}, r"'features' cannot be read.*several lengths"),
    "missing": ({"features": [[[None] * F]] * 3}, r"'features' cannot be read.*missing"),
    "none": ({"features": [None] * 3}, r"lacks the field 'features'"),
    "no id": ({"image_id": [None, "b", "c"]}, r"lacks the field 'image_id'"),
    "size": ({"height": [0, 1, 1]}, r"'height'.*>= 1"),
    "rows": ({"features": [[[1.0] * F] * 9] * 3}, r"differ in number.*\[1, F\].*\(9, 8\)"),
    "text": ({"features": ["no base64!"] * 3}, r"'features' is no base64"),
    "bytes": ({"features": [b"abc"] * 3}, r"'features'.*float32.*3 bytes"),
    "outside": ({"boxes": [[[0.0, 0, 99, 9]]] * 3}, r"outside its image"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows(tmp_path, name):
    changes, message = BAD[name]
    value = table(**{k: (v, None) for k, v in changes.items()}, cls_prob=None)
    path = write(tmp_path / "a.parquet", value)
    text = check_refused(tmp_path / "s", "parquet", [path], message)
    assert "a.parquet, row 0" in text
    good = table(cls_prob=None).slice(1)
    bad = value.slice(0, 1)
    if bad.schema.equals(good.schema):
        both = write(tmp_path / "b.parquet", pa.concat_tables([bad, good]))
        done = run.convert("parquet", [both], tmp_path / "t", ImportSettings(on_bad="skip"))
        assert (done.images, done.skipped) == (2, 1)


def test_damaged_files(tmp_path):
    for suffix in (".parquet", ".arrow", ".feather"):
        path = tmp_path / f"a{suffix}"
        write(path, table())
        whole = path.read_bytes()
        for size in (0, 6, 100, len(whole) // 2):
            path.write_bytes(whole[:size])
            with pytest.raises(DataError, match=r"not a readable Parquet|table is empty"):
                items(parquet.Layout([str(path)]))
        for at in range(0, len(whole), 97):
            data = bytearray(whole)
            data[at] ^= 0x55
            path.write_bytes(data)
            try:
                items(parquet.Layout([str(path)]))
            except DataError:
                continue
    with pytest.raises(DataError, match="no table"):
        parquet.Layout([str(tmp_path / "none.parquet")])
