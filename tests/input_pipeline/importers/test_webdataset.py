"""WebDataset shards: members of one image side by side, arrays of several kinds, damage."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from layout_checks import F, check_items, check_refused, check_store, items, made

from core.errors import DataError
from input_pipeline.importers import run, webdataset
from input_pipeline.importers.settings import ImportSettings

IDS = ["000000009", "000000042", "val/7"]
IMAGES = [made(i) for i in range(3)]


def as_npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def as_npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def write(path, samples, mode="w"):
    """A .tar of {name: {ending: bytes}}."""
    with tarfile.open(path, mode) as archive:
        for name, members in samples.items():
            for ending, data in members.items():
                info = tarfile.TarInfo(f"{name}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return str(path)


def sample(image, **changes):
    values = {
        "jpg": b"\xff\xd8 a picture",
        "txt": b"a caption",
        "json": json.dumps({"height": 40, "width": 60, "url": "http://a"}).encode(),
        "features.npy": as_npy(image["features"]),
        "boxes.npy": as_npy(image["boxes"]),
        "cls_prob.npy": as_npy(image["class_probs"]),
        **changes,
    }
    return {ending: data for ending, data in values.items() if data is not None}


def samples(**changes):
    return {name: sample(image, **changes) for name, image in zip(IDS, IMAGES, strict=True)}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_members_side_by_side(tmp_path, mode):
    path = write(tmp_path / f"a.tar{mode[2:] and '.gz'}", samples(), mode)
    check_items(items(webdataset.Layout([path])), IDS, IMAGES)
    check_store(tmp_path / "s", "webdataset", [path], IDS, IMAGES)


def test_shards_of_a_folder_in_processes(tmp_path):
    (tmp_path / "shards").mkdir()
    for number, (name, members) in enumerate(samples().items()):
        write(tmp_path / "shards" / f"{number:05}.tar", {name: members})
    layout = webdataset.Layout([str(tmp_path / "shards")])
    assert len(layout.parts(1)) == 3
    check_items(items(layout), IDS, IMAGES)


def test_other_ways_to_hold_them(tmp_path):
    """All in JSON; all in one .npz; one array alone; ids in the JSON; fields of other names."""
    in_json, in_npz, renamed = {}, {}, {}
    for name, image in zip(IDS, IMAGES, strict=True):
        record = {key: image[key].tolist() for key in ("boxes", "features")}
        text = json.dumps({**record, "image_id": int(name[-1]), "height": 40, "width": 60})
        in_json[name] = {"json": text.encode()}
        size = {"height": 40, "width": 60}
        in_npz[name] = {"npz": as_npz(features=image["features"], bbox=image["boxes"], **size)}
        size = json.dumps({"original_height": 40, "original_width": 60}).encode()
        renamed[name] = {"npy": as_npy(image["features"]), "det.npy": as_npy(image["boxes"]),
                         "json": size}  # fmt: skip
    ids = [name[-1] for name in IDS]
    exact = [{**image, "features": image["features"].astype(np.float64)} for image in IMAGES]
    path = write(tmp_path / "a.tar", in_json)
    check_items(items(webdataset.Layout([path])), ids, exact, classes=False)
    path = write(tmp_path / "b.tar", in_npz)
    check_items(items(webdataset.Layout([path])), IDS, IMAGES, classes=False)
    pickled = {
        name: {"pyd": pickle.dumps({**image, "features": image["features"]})}
        for name, image in zip(IDS, IMAGES, strict=True)
    }
    path = write(tmp_path / "d.tar", pickled)
    check_items(items(webdataset.Layout([path])), IDS, IMAGES, classes=False)
    path = write(tmp_path / "c.tar", renamed)
    columns = "boxes=det.npy,height=original_height,width=original_width"
    check_items(items(webdataset.Layout([path], columns=columns)), IDS, IMAGES, classes=False)


def test_a_grid_in_shards(tmp_path):
    cells = np.random.default_rng(0).standard_normal((2, 2, F)).astype(np.float32)
    made_samples = {"9": {"npy": as_npy(cells), "cls": b"3"}}
    (tmp_path / "hw.tsv").write_text("000009\t40\t60\n")
    path = write(tmp_path / "a.tar", made_samples)
    layout = webdataset.Layout([path], grid="2x2", sizes=str(tmp_path / "hw.tsv"))
    (item,) = items(layout)
    np.testing.assert_array_equal(item.features, cells.reshape(4, F))
    assert item.boxes[1].tolist() == [30, 0, 60, 20]
    message = r"no boxes.*columns.*'features'.*--columns boxes=NAME.*--grid"
    check_refused(tmp_path / "s", "webdataset", [path], message)


BAD = {
    "array": ({"features.npy": b"no array"}, r"not a readable \.npy.*42\.features\.npy"),
    "json": ({"json": b"{"}, r"malformed JSON.*42\.json"),
    "npz": ({"npz": b"PK"}, r"not a readable \.npz.*42\.npz"),
    "torch": ({"emb.pt": b"PK"}, r"not a readable file of torch.*42\.emb\.pt"),
    "size": ({"json": b"{}"}, r"size of an image.*000000042"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_image(tmp_path, name):
    changes, message = BAD[name]
    all_samples = samples()
    all_samples[IDS[1]] = sample(IMAGES[1], **changes)
    path = write(tmp_path / "a.tar", all_samples)
    check_refused(tmp_path / "s", "webdataset", [path], message)
    done = run.convert("webdataset", [path], tmp_path / "s", ImportSettings(on_bad="skip"))
    assert (done.images, done.skipped) == (2, 1)


def test_archives(tmp_path):
    path = tmp_path / "a.tar"
    write(path, samples())
    whole = path.read_bytes()
    for size in (100, 5000, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"not a readable tar|no images of this layout"):
            items(webdataset.Layout([str(path)]))
    write(path, {"a": {"txt": b"a"}})
    with pytest.raises(DataError, match="no images of this layout"):
        webdataset.Layout([str(path)])
    with pytest.raises(DataError, match="no archive"):
        webdataset.Layout([str(tmp_path / "none.tar")])
    with tarfile.open(path, "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a.npy"))
    with pytest.raises(DataError, match=r"(?s)not a readable tar.*twice"):
        webdataset.Layout([str(path)])
