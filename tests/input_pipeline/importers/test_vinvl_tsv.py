"""VinVL's and Oscar's TSV files: what is read, what is refused."""

import json

import numpy as np
import pytest
from layout_checks import (
    F,
    check_items,
    check_parts,
    check_refused,
    check_store,
    encoded,
    entries,
    items,
    made,
    shares,
)

from core.errors import DataError
from input_pipeline.importers import run, vinvl_tsv
from input_pipeline.importers.settings import ImportSettings

IDS = ["9", "1", "COCO_7"]
IMAGES = [made(i) for i in range(3)]
OPTIONS = {"feature_dim": F}


def placed(image):
    """[n, F + 6] appearance and place."""
    return np.concatenate([image["features"], shares(image)], 1)


def prediction(image, columns=F, **changes):
    objects = [
        {"rect": box.tolist(), "class": "dog", "conf": 0.5, "feature": encoded(row[:columns])}
        for box, row in zip(image["boxes"], placed(image), strict=True)
    ]
    values = {"image_h": 40, "image_w": 60, "num_boxes": len(objects), "objects": objects}
    values = {**values, **changes}
    return json.dumps({key: value for key, value in values.items() if value is not None})


def rows(image, **changes):
    count = changes.get("num_boxes", len(image["boxes"]))
    return f"{count}\t{changes.get('features', encoded(placed(image)))}"


def oscar(image, **changes):
    values = {"num_boxes": len(image["boxes"]), "features": encoded(placed(image)), **changes}
    return json.dumps(values)


def halved(image):
    return encoded(placed(image), "<f2")


def as_halves(image):
    """What half precision leaves of an image."""
    boxes = placed(image).astype(np.float16)[:, F : F + 4] * np.asarray([60, 40, 60, 40])
    return {**image, "features": image["features"].astype(np.float16), "boxes": boxes}


def write(path, lines, ids=IDS, end="\n"):
    lines = [f"{name}\t{line}".encode() if isinstance(line, str) else line
             for name, line in zip(ids, lines, strict=True)]  # fmt: skip
    path.write_bytes(b"\n".join(lines) + end.encode())
    return str(path)


def write_sizes(path):
    path.write_text("".join(f'{name}\t[{{"height": 40, "width": 60}}]\n' for name in IDS))
    return str(path)


@pytest.mark.parametrize("columns", [F, F + 6])
def test_predictions(tmp_path, columns):
    path = write(tmp_path / "a.tsv", [prediction(image, columns) for image in IMAGES])
    layout = vinvl_tsv.Layout([path], **OPTIONS)
    check_items(items(layout), IDS, IMAGES, classes=False)
    check_parts(layout)
    assert entries(layout)[0][0] == f"{path}, byte 0"
    store = check_store(tmp_path / "s", "vinvl_tsv", [path], IDS, IMAGES, **OPTIONS)
    assert store.spec.num_classes == 0


@pytest.mark.parametrize("line", [rows, oscar])
@pytest.mark.parametrize("swapped", [False, True])
def test_features(tmp_path, line, swapped):
    lines = []
    for image in IMAGES:
        values = placed(image)
        if swapped:  # height and width of the box, as another extractor has them
            values[:, -2:] = values[:, :-3:-1]
        lines.append(line(image, features=encoded(values)))
    path = write(tmp_path / "features.tsv", lines, end="")
    options = {**OPTIONS, "sizes": write_sizes(tmp_path / "hw.tsv")}
    check_items(items(vinvl_tsv.Layout([path], **options)), IDS, IMAGES, classes=False)
    check_store(tmp_path / "s", "vinvl_tsv", [path], IDS, IMAGES, **options)


def test_sizes_of_the_published_labels(tmp_path):
    path = write(tmp_path / "features.tsv", [rows(image) for image in IMAGES])
    labels = [prediction(image, objects=[{"rect": [0, 0, 1, 1], "class": "dog"}])
              for image in IMAGES]  # fmt: skip
    sizes = write(tmp_path / "predictions.tsv", labels)
    check_items(items(vinvl_tsv.Layout([path], sizes=sizes, **OPTIONS)), IDS, IMAGES, classes=False)
    message = r"no feature: these are labels.*objects\[0\].*features\.tsv"
    check_refused(tmp_path / "s", "vinvl_tsv", [sizes], message, **OPTIONS)
    check_refused(tmp_path / "s", "vinvl_tsv", [path], r"image '9'.*--sizes FILE", **OPTIONS)


def test_line_index(tmp_path):
    path = write(tmp_path / "a.tsv", [prediction(image) for image in IMAGES])
    data, index = (tmp_path / "a.tsv").read_bytes(), tmp_path / "a.lineidx"
    starts = [0, *(i + 1 for i, byte in enumerate(data[:-1]) if byte == ord("\n"))]
    index.write_text("".join(f"{start}\n" for start in starts))
    check_store(tmp_path / "s", "vinvl_tsv", [path], IDS, IMAGES, **OPTIONS)
    (tmp_path / "a.tsv").write_bytes(data[: starts[-1]])  # cut between two lines
    message = rf"line index disagree.*a\.lineidx.*byte {starts[-1]}.*{starts[-1]} bytes"
    check_refused(tmp_path / "t", "vinvl_tsv", [path], message, **OPTIONS)
    (tmp_path / "a.tsv").write_bytes(data)
    for text in (f"{starts[1]}\n", f"{starts[1] + 1}\n", "x\n"):
        index.write_text(text)
        check_refused(tmp_path / "t", "vinvl_tsv", [path], "line index disagree", **OPTIONS)


GOOD = made(1)
BAD = {
    "json": ('{"objects": [', r"malformed JSON.*byte \d+, image '1'"),
    "columns": ("1\t2\t3\t4", "another layout.*id and JSON.*5 columns"),
    "id": (b"\xe9\t{}", r"id is not UTF-8.*xe9"),
    "no id": (b"\t{}", "neither text nor"),
    "utf-8": (b'1\t{"a": "\xe9"}', "not UTF-8"),
    "num_boxes": (rows(GOOD, num_boxes=3), r"'features'.*168 bytes.*found: 112 bytes"),
    "no number": (rows(GOOD, num_boxes="two"), "'num_boxes'.*two"),
    "cut": (rows(GOOD)[:-20], r"'features'.*112 bytes.*found"),
    "cut base64": (rows(GOOD)[:-21], "'features' is no base64"),
    "float64": (rows(GOOD, features=encoded(placed(GOOD), "<f8")), "112 bytes.*224 bytes.*float64"),
    "no place": (rows(GOOD, features=encoded(GOOD["features"])), r"112 bytes.*found: 64 bytes"),
    "wrong place": (rows(GOOD, features=encoded(placed(GOOD)[:, ::-1])), "last six columns.*no pl"),
    "no features": ('{"num_boxes": 2}', "lacks the field 'features'"),
    "no rect": (prediction(GOOD, objects=[{"feature": ""}]), r"objects\[0\].*'feature'"),
    "short rect": (prediction(GOOD, objects=[{"rect": [1, 2, 3]}]), r"'rect'.*\[1, 2, 3\]"),
    "text rect": (prediction(GOOD, objects=[{"rect": [1, 2, "3", 4]}]), r"'rect'.*'3'"),
    "objects": (prediction(GOOD, objects={"rect": 1}), "'objects'.*a list of objects"),
    "feature": (prediction(GOOD, objects=[{"rect": [1, 2, 3, 4], "feature": encoded([1, 2])}]),
                r"objects\[0\].*32 bytes.*found: 8 bytes"),
    "feature64": (prediction(GOOD, objects=[{"rect": [1, 2, 3, 4],
                                             "feature": encoded(np.ones(F), "<f8")}]),
                  r"objects\[0\].*56 bytes.*found: 64 bytes"),
    "size": (prediction(GOOD, image_h=-4), "'height'.*-4"),
    "no regions": (prediction(GOOD, objects=[]), "number of regions.*found: 0"),
    "no rows": (rows(made(1, 0)), "number of regions.*found: 0"),
    "xywh": (prediction(GOOD | {"boxes": np.asarray([[30, 20, 5, 5]] * 2)}), "corners swapped"),
    "outside": (prediction(GOOD, image_w=5), "outside its image"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_lines(tmp_path, name):
    line, message = BAD[name]
    lines = [prediction(IMAGES[0]), line, prediction(IMAGES[2])]
    path = write(tmp_path / "a.tsv", lines)
    options = {**OPTIONS, "sizes": write_sizes(tmp_path / "hw.tsv")}
    text = check_refused(tmp_path / "s", "vinvl_tsv", [path], message, **options)
    assert f"a.tsv, byte {len(lines[0]) + 3}" in text
    done = run.convert(
        "vinvl_tsv", [path], tmp_path / "s", ImportSettings(options=options, on_bad="skip")
    )
    assert (done.images, done.skipped) == (2, 1)


def test_repeated_ids(tmp_path):
    path = write(tmp_path / "a.tsv", [prediction(image) for image in IMAGES], ids=["1", "2", "1"])
    check_refused(
        tmp_path / "s", "vinvl_tsv", [path], r"occurs twice.*byte 0.*image '1'", **OPTIONS
    )


def test_files_of_another_kind(tmp_path):
    for name, data, message in (
        ("empty.tsv", b"", "an empty file"),
        ("text.tsv", b"hello\n", "1 columns"),
        ("binary.tsv", b"\x1f\x8b\x08", "1 columns"),
    ):
        (tmp_path / name).write_bytes(data)
        files = [tmp_path / name]
        check_refused(tmp_path / "s", "vinvl_tsv", files, f"{name}.*{message}", **OPTIONS)
    with pytest.raises(DataError, match=r"(?s)no file.*nowhere"):
        vinvl_tsv.Layout([str(tmp_path / "nowhere")])


def test_a_line_without_end(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tsv", [prediction(image) for image in IMAGES])
    monkeypatch.setattr("input_pipeline.importers.formats.inputs.MAX_LINE", 100)
    check_refused(tmp_path / "s", "vinvl_tsv", [path], "line is too long.*byte 0.*100", **OPTIONS)


def test_half_precision(tmp_path):
    """The published features for captioning: half the bytes, and nothing says so."""
    images = [as_halves(image) for image in IMAGES]
    lines = [
        rows(IMAGES[0], features=halved(IMAGES[0])),
        oscar(IMAGES[1], features=halved(IMAGES[1])),
        oscar(IMAGES[2], features=halved(IMAGES[2])),
    ]
    sizes = tmp_path / "hw.tsv"
    sizes.write_text("\ufeff" + "".join(f"{name}\t40\t60\n" for name in ("9", "1", "00007")))
    path = write(tmp_path / "a.tsv", lines)
    found = items(vinvl_tsv.Layout([path], sizes=str(sizes), **OPTIONS))
    check_items(found, IDS, images, classes=False)
    objects = [
        {"rect": box.tolist(), "feature": encoded(row, "<f2")}
        for box, row in zip(IMAGES[0]["boxes"], IMAGES[0]["features"], strict=True)
    ]
    path = write(tmp_path / "b.tsv", [prediction(IMAGES[0], objects=objects)], ids=["9"])
    whole = {**images[0], "boxes": IMAGES[0]["boxes"]}
    check_items(items(vinvl_tsv.Layout([path], **OPTIONS)), ["9"], [whole], classes=False)
