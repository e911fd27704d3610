"""Folders of .npy and .npz files: what is read, what is refused."""

import json
import zipfile

import numpy as np
import pytest
from layout_checks import (
    F,
    check_items,
    check_parts,
    check_refused,
    check_store,
    items,
    made,
    shares,
)

from core.errors import DataError
from input_pipeline.importers import numpy_folder, run
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore

IDS = ["COCO_val2014_000000000042", "b", "deep/c"]
IMAGES = [made(i) for i in range(3)]


def info(image, **changes):
    """The dictionary of the extractors."""
    values = {
        "bbox": image["boxes"],
        "num_boxes": len(image["boxes"]),
        "objects": np.zeros(len(image["boxes"]), np.int64),
        "image_height": 40,
        "image_width": 60,
        "cls_prob": image["class_probs"],
        "image_id": "not the file's name",
    }
    values.update(changes)
    return {key: value for key, value in values.items() if value is not None}


def single(path, image, **changes):
    np.save(f"{path}.npy", info(image, **{"features": image["features"], **changes}))


def pair(path, image, features=None, **changes):
    np.save(f"{path}.npy", image["features"] if features is None else features)
    np.save(f"{path}_info.npy", info(image, **changes))


def with_json(path, image, features=None, **changes):
    np.save(f"{path}.npy", image["features"] if features is None else features)
    values = {"boxes": image["boxes"].tolist(), "width": 60, "height": 40, **changes}
    values = {key: value for key, value in values.items() if value is not None}
    with open(f"{path}.json", "w") as file:
        json.dump(values, file)


def npz(path, image, **changes):
    values = {"x": image["features"], "bbox": image["boxes"], "num_bbox": len(image["boxes"]),
              "image_w": 60, "image_h": 40, "info": {"objects_id": [1]}, **changes}  # fmt: skip
    values = {key: value for key, value in values.items() if value is not None}
    np.savez_compressed(f"{path}.npz", **values)


WRITERS = {"single": single, "pair": pair, "json": with_json, "npz": npz}


def write(folder, writer, images=IMAGES, **changes):
    (folder / "deep").mkdir(parents=True)
    for name, image in zip(IDS, images, strict=True):
        writer(folder / name, image)
    if changes:
        writer(folder / "b", images[1], **changes)
    return str(folder)


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_kinds(tmp_path, kind):
    path = write(tmp_path / "a", WRITERS[kind])
    (tmp_path / "a" / ".DS_Store.npy").write_bytes(b"")
    layout = numpy_folder.Layout([path])
    classes = kind in ("single", "pair")
    check_items(items(layout), IDS, IMAGES, classes=classes)
    check_parts(layout)
    store = check_store(tmp_path / "s", "numpy_folder", [path], IDS, IMAGES)
    assert bool(store.spec.num_classes) == classes


def test_several_folders_and_ids_as_numbers(tmp_path):
    a = write(tmp_path / "a", single)
    (tmp_path / "b").mkdir()
    pair(tmp_path / "b" / "7", IMAGES[0])
    check_store(
        tmp_path / "s", "numpy_folder", [a, tmp_path / "b"], [*IDS, "7"], [*IMAGES, IMAGES[0]]
    )
    files = [str(tmp_path / "b")]
    done = run.convert("numpy_folder", files, tmp_path / "t", ImportSettings(ids="number"))
    assert done.images == 1


def test_boxes_as_x_y_width_height(tmp_path):
    boxes = [image["boxes"] for image in IMAGES]
    images = [
        {**image, "boxes": np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], 1)}
        for image, b in zip(IMAGES, boxes, strict=True)
    ]
    path = write(tmp_path / "a", single, images)
    check_items(items(numpy_folder.Layout([path], box_format="xywh")), IDS, IMAGES)
    check_refused(tmp_path / "s", "numpy_folder", [path], r"corners swapped.*0042\.npy")


def test_transposed_features(tmp_path):
    path = write(tmp_path / "a", npz)
    for name, image in zip(IDS, IMAGES, strict=True):
        npz(tmp_path / "a" / name, image, x=image["features"].T)
    text = check_refused(tmp_path / "s", "numpy_folder", [path], r"differ in number.*--transpose")
    assert "COCO_val2014_000000000042.npz" in text
    layout = numpy_folder.Layout([path], transpose=True)
    check_items(items(layout), IDS, IMAGES, classes=False)


def test_sizes_from_another_file(tmp_path):
    path = write(tmp_path / "a", npz)
    for name, image in zip(IDS, IMAGES, strict=True):
        npz(tmp_path / "a" / name, image, image_w=None, image_h=None)
    check_refused(tmp_path / "s", "numpy_folder", [path], r"size of an image.*--sizes FILE")
    coco = {"images": [
        {"id": 42, "file_name": "val2014/COCO_val2014_000000000042.jpg", "height": 40, "width": 60},
        {"id": "b", "height": 40, "width": 60}, {"id": "deep/c", "height": 40, "width": 60},
    ]}  # fmt: skip
    lines = [{"image_id": name, "image_h": 40, "image_w": 60} for name in IDS]
    for name, text in {
        "coco.json": json.dumps(coco),
        "map.json": json.dumps({name: {"height": 40, "width": 60} for name in IDS}),
        "sizes.jsonl": "\n".join(map(json.dumps, lines)),
        "hw.tsv": "".join(f'{name}\t[{{"height": 40, "width": 60}}]\n' for name in IDS),
    }.items():
        (tmp_path / name).write_text(text)
        layout = numpy_folder.Layout([path], sizes=str(tmp_path / name))
        check_items(items(layout), IDS, IMAGES, classes=False)


BAD_SIZES = {
    "a.json": (
        '{"images": [{"id": 1, "height": 4}]}',
        r"images\[0\].*'width' or 'image_w'",
    ),
    "b.json": ('{"images": [{"height": 4, "width": 4}]}', r"images\[0\].*'id' or 'file_name'"),
    "c.json": ('{"images": [3]}', r"no size of an image.*images\[0\].*3"),
    "d.json": ('{"a": {"height": 4, "width": 0}}', r"key 'a'.*>= 1.*found: 0"),
    "e.json": ("{", "malformed JSON.*e.json"),
    "f.jsonl": ('{"id": 1, "height": 4, "width": 4}\n{"height": 4}', r"f\.jsonl:2.*'id'"),
    "g.tsv": ("a\t4\t5\nb\t4\n", r"g\.tsv:2"),
    "h.tsv": ("a\t4\t5\t6\n", r"wrong number of columns.*h\.tsv:1.*4 columns"),
    "i.tsv": ("a\t4\t5\na\t5\t4\n", r"two sizes of image 'a'.*i\.tsv:2.*\(4, 5\).*\(5, 4\)"),
    "j.tsv": ("", "no image sizes.*j.tsv"),
    "k.csv": ("a,4,5", r"unknown kind.*\.jsonl.*'\.csv'"),
    "l.tsv": (b"caf\xe9\t4\t5\n", r"not UTF-8.*l\.tsv:1"),
}


@pytest.mark.parametrize("name", sorted(BAD_SIZES))
def test_bad_files_of_sizes(tmp_path, name):
    text, message = BAD_SIZES[name]
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    path = write(tmp_path / "a", npz)
    options = {"sizes": str(tmp_path / name)}
    check_refused(tmp_path / "s", "numpy_folder", [path], message, **options)


def att_and_box(folder, images=IMAGES, suffixes=("_att", "_box", "_fc")):
    """Self-critical captioning's COCO-BU: three folders, and no sizes."""
    att, box, fc = (folder / f"cocobu{suffix}" for suffix in suffixes)
    for path in (att, box, fc):
        path.mkdir(parents=True)
    for name, image in zip(("9", "42", "7"), images, strict=True):
        np.savez_compressed(att / f"{name}.npz", feat=image["features"])
        np.save(box / f"{name}.npy", image["boxes"])
        np.save(fc / f"{name}.npy", image["features"].mean(0))
    lines = [{"id": int(name), "height": 40, "width": 60} for name in ("9", "42", "7")]
    (folder / "cocotalk.json").write_text(json.dumps({"images": lines}))
    return str(att), str(folder / "cocotalk.json")


def test_boxes_in_a_folder_beside(tmp_path):
    path, sizes = att_and_box(tmp_path)
    order = [1, 2, 0]
    images, names = [IMAGES[i] for i in order], ["42", "7", "9"]
    found = items(numpy_folder.Layout([path], sizes=sizes))
    check_items(found, names, images, classes=False)
    np.testing.assert_array_equal(found[0].global_feature, IMAGES[1]["features"].mean(0))
    check_store(tmp_path / "s", "numpy_folder", [path], names, images, sizes=sizes)
    settings = ImportSettings(global_feature="stored", options={"sizes": sizes})
    assert run.convert("numpy_folder", [path], tmp_path / "t", settings).images == 3
    three = [path, path[:-3] + "box", path[:-3] + "fc"]
    check_refused(tmp_path / "u", "numpy_folder", three, r"cocobu_box.*cocobu_att alone.*leave it")
    # Folders of other names are named.
    path, sizes = att_and_box(tmp_path / "b", suffixes=("1", "2", "3"))
    check_refused(tmp_path / "u", "numpy_folder", [path], "lacks the field 'bbox'", sizes=sizes)
    layout = numpy_folder.Layout([path], sizes=sizes, box_folder=path[:-1] + "2")
    check_items(items(layout), names, images, classes=False)
    (tmp_path / "b" / "cocobu2" / "42.npy").unlink()
    options = {"sizes": sizes, "box_folder": path[:-1] + "2"}
    message = r"cannot be read.*cocobu2/42\.npy"
    check_refused(tmp_path / "v", "numpy_folder", [path], message, **options)
    with pytest.raises(DataError, match=r"(?s)--box_folder does not fit.*1 folders.*2 folders"):
        numpy_folder.Layout([path], box_folder=f"{path},{path}")


def test_boxes_of_six_columns(tmp_path):
    """VinVL as MMF extracts it: places as shares of the image, behind the features too."""
    (tmp_path / "a").mkdir()
    for name, image in zip("abc", IMAGES, strict=True):
        np.save(
            tmp_path / "a" / f"{name}.npy", np.concatenate([image["features"], shares(image)], 1)
        )
        np.save(tmp_path / "a" / f"{name}_info.npy", info(image, bbox=shares(image)))
    check_items(items(numpy_folder.Layout([str(tmp_path / "a")])), list("abc"), IMAGES)


def test_boxes_of_a_resized_picture(tmp_path):
    """The error names the scale, and the option it names reads them."""
    scale = 800 / 40
    images = [{**image, "boxes": image["boxes"] * scale} for image in IMAGES]
    images[0]["boxes"][0] = [0, 0, 60 * scale, 40 * scale]
    path = write(tmp_path / "a", single, images)
    message = r"outside its image.*resized by 20\.000.*--resized 800,1333 \(scale 20\.000\)"
    check_refused(tmp_path / "s", "numpy_folder", [path], message)
    settings = ImportSettings(resized="800,1333", dtype="float32")
    assert run.convert("numpy_folder", [path], tmp_path / "s", settings).images == 3
    store = RegionStore.open(tmp_path / "s")
    np.testing.assert_allclose(store.read(1)["boxes"], IMAGES[1]["boxes"], atol=1e-4)
    # With --on_bad skip it is no store without images that is told, but why there are none.
    with pytest.raises(DataError, match=r"(?s)every image was left out.*3 bad.*--resized 800,1333"):
        run.convert("numpy_folder", [path], tmp_path / "t", ImportSettings(on_bad="skip"))
    for text in ("800", "1333,800", "0,9", "a,b"):
        with pytest.raises(DataError, match="--resized does not say"):
            run.convert("numpy_folder", [path], tmp_path / "t", ImportSettings(resized=text))


def test_boxes_as_shares_of_the_image(tmp_path):
    """Read as pixels they pass as tiny boxes, which is told; --box_format reads them."""
    images = [{**image, "boxes": shares(image)[:, :4]} for image in IMAGES]
    path = write(tmp_path / "a", single, images)
    done = run.convert("numpy_folder", [path], tmp_path / "s", ImportSettings())
    ((note, (number, _)),) = done.notes.items()
    assert "within one pixel" in note
    assert number == 3
    options = {"box_format": "shares"}
    done = run.convert("numpy_folder", [path], tmp_path / "t", ImportSettings(options=options))
    assert not done.notes
    check_items(items(numpy_folder.Layout([path], **options)), IDS, IMAGES)


NONE = {"features": np.ones((0, F)), "bbox": [], "cls_prob": np.ones((0, 5)), "num_boxes": 0}
NAN = np.full((2, F), np.nan, np.float32)
BAD = {
    "no boxes": (single, {"bbox": None}, r"lacks the field 'bbox'.*'features', 'image_height'"),
    "no features": (single, {"features": None}, r"lacks the field 'features'"),
    "rows": (single, {"bbox": np.ones((3, 4))}, r"differ in number.*\[3, F\].*\(2, 8\)"),
    "columns": (single, {"bbox": np.ones((2, 5))}, r"'bbox'.*\(None, 4\).*\(2, 5\)"),
    "classes": (single, {"cls_prob": np.ones((3, 5))}, r"'cls_prob'.*\(2, None\).*\(3, 5\)"),
    "counted": (single, {"num_boxes": 3}, r"'num_boxes'.*2, as features.*3"),
    "axes": (single, {"features": np.ones((1, 2, F))}, r"'features'.*\(1, 2, 8\)"),
    "integers": (single, {"features": np.ones((2, F), int)}, "'features'.*floats.*int"),
    "size": (single, {"image_height": "tall"}, "'height'.*'tall'"),
    "nan": (single, {"features": NAN}, "not finite"),
    "no regions": (single, NONE, "number of regions.*found: 0"),
    "outside": (single, {"bbox": [[0, 0, 90, 9]] * 2}, "outside its image"),
    "pair rows": (pair, {"features": np.ones((3, F))}, r"differ in number.*\[2, F\]"),
    "pair of dicts": (pair, {"features": {"a": 1}}, r"'features'.*of type dict"),
    "json rows": (with_json, {"boxes": [[1, 2, 3], [1, 2, 3, 4]]}, r"'bbox'.*\(None, 4\)"),
    "json size": (with_json, {"width": None}, "lacks the field 'width'"),
    "npz rows": (npz, {"num_bbox": 3}, r"'num_boxes'.*2, as features.*3.*--num_boxes ignore"),
    "npz keys": (npz, {"x": None}, r"lacks the field 'features'.*'x'.*'bbox'"),
    "npz other keys": (npz, {"x": None, "roi": np.ones((2, F))}, r"'features'.*'bbox'.*'roi'"),
    "npz objects": (npz, {"x": np.asarray([{}, {}], object)}, "pickle"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_images(tmp_path, name):
    writer, changes, message = BAD[name]
    path = write(tmp_path / "a", writer, **changes)
    text = check_refused(tmp_path / "s", "numpy_folder", [path], message)
    assert "a/b.n" in text
    done = run.convert("numpy_folder", [path], tmp_path / "s", ImportSettings(on_bad="skip"))
    assert (done.images, done.skipped) == (2, 1)


class Malicious:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("writer", [single, pair])
def test_malicious_pickles_are_not_run(tmp_path, capsys, writer):
    path = write(tmp_path / "a", writer, objects=Malicious())
    check_refused(tmp_path / "s", "numpy_folder", [path], r"refused.*b(_info)?\.npy.*print")
    assert "run\n" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", sorted(WRITERS))
@pytest.mark.parametrize("keep", [0, 5, 100, -7])
def test_cut_files(tmp_path, kind, keep):
    path = write(tmp_path / "a", WRITERS[kind])
    file = tmp_path / "a" / ("b.npz" if kind == "npz" else "b.npy")
    file.write_bytes(file.read_bytes()[:keep])
    text = check_refused(tmp_path / "s", "numpy_folder", [path], "not a readable")
    assert str(file) in text


def test_flipped_bytes(tmp_path):
    path = write(tmp_path / "a", npz)
    file = tmp_path / "a" / "b.npz"
    with zipfile.ZipFile(file) as archive:
        at = archive.getinfo("x.npy").header_offset + 60
    data = bytearray(file.read_bytes())
    data[at] ^= 0xFF
    file.write_bytes(data)
    check_refused(tmp_path / "s", "numpy_folder", [path], r"not a readable \.npz.*b\.npz")


def test_missing_companions(tmp_path):
    path = write(tmp_path / "a", pair)
    (tmp_path / "a" / "b_info.npy").unlink()
    check_refused(tmp_path / "s", "numpy_folder", [path], r"cannot be read.*b_info\.npy")
    path = write(tmp_path / "b", with_json)
    (tmp_path / "b" / "b.npy").unlink()
    check_refused(tmp_path / "s", "numpy_folder", [path], r"cannot be read.*b\.npy")
    path = write(tmp_path / "c", pair)
    for file in (tmp_path / "c").rglob("*_info.npy"):
        file.unlink()
    message = r"features alone.*COCO.*a dictionary.*ndarray \(1, 8\).*X_info\.npy or X\.json"
    check_refused(tmp_path / "s", "numpy_folder", [path], message)


def test_mixed_and_empty_folders(tmp_path):
    path = write(tmp_path / "a", npz)
    single(tmp_path / "a" / "d", IMAGES[0])
    check_refused(tmp_path / "s", "numpy_folder", [path], r"several kinds.*\.npz.*\.npy")
    path = write(tmp_path / "b", pair)
    with_json(tmp_path / "b" / "d", IMAGES[0])
    check_refused(tmp_path / "s", "numpy_folder", [path], r"several kinds.*_info\.npy.*\.json")
    (tmp_path / "c").mkdir()
    check_refused(tmp_path / "s", "numpy_folder", [tmp_path / "c"], r"no files of this layout")
    (tmp_path / "c" / "a.json").write_text("{}")
    check_refused(tmp_path / "s", "numpy_folder", [tmp_path / "c"], r"no features.*\.json only")
    with pytest.raises(DataError, match=r"(?s)no folder.*nowhere"):
        numpy_folder.Layout([str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match=r"(?s)--box_format.*'cxcywh'"):
        numpy_folder.Layout([path], box_format="cxcywh")


def test_file_names_that_are_no_text(tmp_path):
    path = write(tmp_path / "a", single)
    (tmp_path / "a" / "b.npy").rename(tmp_path / "a" / "caf\udce9.npy")
    check_refused(tmp_path / "s", "numpy_folder", [path], "id is not UTF-8")
