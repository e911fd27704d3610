"""Grids and patches without boxes: files of each kind, shapes, class tokens, sizes."""

import base64
import json
import pathlib
import zlib

import h5py
import numpy as np
import pytest
from layout_checks import check_parts, check_refused, items

from core.errors import DataError
from input_pipeline.importers import grid, run
from input_pipeline.importers.formats import safetensors_file
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore

F = 12
IDS = ["9", "42", "deep/7"]
rng = np.random.default_rng(0)
PATCHES = {name: rng.standard_normal((6, F)).astype(np.float32) for name in IDS}  # 2 x 3
BOXES = [[0, 0, 20, 20], [20, 0, 40, 20], [40, 0, 60, 20],
         [0, 20, 20, 40], [20, 20, 40, 40], [40, 20, 60, 40]]  # fmt: skip


def sizes(folder):
    path = folder / "instances.json"
    rows = [{"id": int(name.rpartition("/")[2]), "height": 40, "width": 60} for name in IDS]
    path.write_text(json.dumps({"images": rows}))
    return str(path)


def write_safetensors(path, tensors):
    """As the safetensors package writes them."""
    names = {np.dtype("<f4"): "F32", np.dtype("<f2"): "F16"}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape),
                        "data_offsets": [at, at + array.nbytes]}  # fmt: skip
        at += array.nbytes
    text = json.dumps(header).encode()
    data = b"".join(array.tobytes() for array in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def npy(path, values):
    np.save(path.with_suffix(".npy"), values)


def npz(path, values):
    np.savez(path.with_suffix(".npz"), feat=values, other=np.zeros((2, 2)))


def safetensors(path, values):
    write_safetensors(path.with_suffix(".safetensors"), {"patches": values})


def folder_of(path, writer, patches=PATCHES):
    (path / "deep").mkdir(parents=True)
    for name, values in patches.items():
        writer(path / name, values)
    return str(path)


def check(found, patches=PATCHES, ids=IDS):
    assert [item.image_id for item in found] == sorted(ids)
    for item in found:
        assert (item.height, item.width) == (40, 60)
        np.testing.assert_allclose(item.boxes, BOXES, atol=1e-4)
        np.testing.assert_array_equal(item.features, patches[item.image_id])


@pytest.mark.parametrize("writer", [npy, npz, safetensors])
def test_a_file_for_each_image(tmp_path, writer):
    path = folder_of(tmp_path / "in", writer)
    layout = grid.Layout([path], grid="2x3", sizes=sizes(tmp_path))
    check(items(layout))
    check_parts(layout)


def test_many_images_in_one_file(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", PATCHES)
    np.savez(tmp_path / "a.npz", **PATCHES)
    np.save(tmp_path / "a.npy", np.stack([PATCHES[name] for name in IDS]))
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    for name, options in (
        ("a.safetensors", {}),
        ("a.npz", {}),
        ("a.npy", {"id_map": str(tmp_path / "ids.json")}),
    ):
        layout = grid.Layout([str(tmp_path / name)], grid="2x3", sizes=sizes(tmp_path), **options)
        found = items(layout)
        check(sorted(found, key=lambda item: item.image_id))
    with pytest.raises(DataError, match=r"(?s)ids of the rows.*--id_map"):
        grid.Layout([str(tmp_path / "a.npy")], grid="2x3", sizes=sizes(tmp_path))


def hdf5(path, kind):
    with h5py.File(path, "w") as file:
        for name, values in PATCHES.items():
            name = name.rpartition("/")[2]
            if kind == "DLCT":  # regions, and the grid beside them
                file[f"{name}_features"] = np.ones((3, F), "f4")
                file[f"{name}_boxes"] = np.ones((3, 4), "f4")
                file[f"{name}_grids"] = values
                file[f"{name}_size"] = [[40, 60]]
            elif kind == "groups":
                file[f"{name}/features"] = values
                file[f"{name}/img_h"], file[f"{name}/img_w"] = 40, 60
            elif kind == "named":
                file[name] = values
        if kind == "stacked":
            file["features"] = np.stack(list(PATCHES.values()))
            file["image_ids"] = [9, 42, 7]
    return str(path)


@pytest.mark.parametrize("kind", ["DLCT", "groups", "named", "stacked"])
def test_hdf5(tmp_path, kind):
    patches = {name.rpartition("/")[2]: values for name, values in PATCHES.items()}
    options = {} if kind in ("DLCT", "groups") else {"sizes": sizes(tmp_path)}
    layout = grid.Layout([hdf5(tmp_path / "a.hdf5", kind)], grid="2x3", **options)
    found = sorted(items(layout), key=lambda item: item.image_id)
    check(found, patches, list(patches))


def test_files_of_torch(tmp_path):
    made = json.loads(pathlib.Path(__file__).with_name("torch_files.json").read_text())
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    for kind in ("zip", "old"):
        by_id = tmp_path / f"{kind}.pt"  # {"a": 3 x 4, 7: 3 x 4}
        by_id.write_bytes(zlib.decompress(base64.b64decode(made["by_id"][kind])))
        (tmp_path / kind).mkdir()
        one = tmp_path / kind / "9.pth"
        one.write_bytes(zlib.decompress(base64.b64decode(made["brain"][kind])))
        (tmp_path / "hw.tsv").write_text("a\t40\t60\n7\t40\t60\n9\t40\t60\n")
        for path, values in (
            (str(by_id), {"a": whole, "7": whole + 1}),
            (str(tmp_path / kind), {"9": whole}),
        ):
            layout = grid.Layout([path], grid="1x3", sizes=str(tmp_path / "hw.tsv"))
            for item in items(layout):
                np.testing.assert_array_equal(item.features, values.pop(item.image_id))
            assert not values


def one(folder, values, **options):
    folder.mkdir(parents=True)
    np.save(folder / "9.npy", values)
    (item,) = items(grid.Layout([str(folder)], sizes=sizes(folder), **options))
    return item


def test_shapes(tmp_path):
    """Channels first or last, axes of one, and grids that are not named."""
    patches = PATCHES["9"]
    for i, (values, options) in enumerate(
        [
            (patches.reshape(2, 3, F), {}),
            (patches.reshape(2, 3, F), {"grid": "2x3"}),
            (patches.T.reshape(F, 2, 3), {}),
            (patches.T.reshape(1, F, 2, 3), {"grid": "2X3"}),
            (patches[None], {"grid": "2x3"}),
        ]
    ):
        item = one(tmp_path / str(i), values, **options)
        np.testing.assert_allclose(item.boxes, BOXES, atol=1e-4)
        np.testing.assert_array_equal(item.features, patches)
    # CLIP: a class token and a square of patches; the token is the whole image's feature.
    tokens = rng.standard_normal((1 + 16, F)).astype(np.float16)
    item = one(tmp_path / "clip", tokens, prefix=1)
    np.testing.assert_array_equal(item.features, tokens[1:])
    np.testing.assert_array_equal(item.global_feature, tokens[0])
    assert item.boxes[5].tolist() == [15, 10, 30, 20]
    settings = ImportSettings(
        global_feature="stored",
        dtype="float32",
        options={"prefix": 1, "sizes": sizes(tmp_path)},
    )
    run.convert("grid", [str(tmp_path / "clip")], tmp_path / "s", settings)
    rows = RegionStore.open(tmp_path / "s").read(0)["features"]
    np.testing.assert_array_equal(rows, tokens.astype(np.float32))


BAD = {
    "class token": (np.ones((17, F)), {}, r"do not fill.*17 rows.*--grid 4x4 --prefix 1"),
    "registers": (np.ones((21, F)), {"grid": "4x4"}, r"16 rows.*21 rows.*4x4 --prefix 5"),
    "other grid": (np.ones((6, F)), {"grid": "7x7"}, r"7 x 7 = 49 rows.*6 rows"),
    "no square": (np.ones((40, F)), {}, r"square number of rows.*40 rows"),
    "axes": (np.ones((5, 5, 5)), {}, r"axes of a grid.*\(5, 5, 5\).*--grid"),
    "one axis": (np.ones(F), {}, r"'features'.*\(12,\)"),
    "integers": (np.ones((4, F), int), {}, r"'features'.*floats.*int64"),
    "words": (np.ones((4, F)), {"grid": "seven"}, r"--grid is no grid.*'seven'"),
    "negative": (np.ones((4, F)), {"prefix": -1}, r"--prefix is negative"),
    "several": ({"a": np.ones((4, F)), "b": np.ones((4, F))}, {}, r"which array.*--key"),
    "no key": ({"a": np.ones((4, F)), "b": np.ones((4, F))}, {"key": "c"}, r"which array.*'c'"),
    "too many": (np.ones((121, F)), {}, r"number of regions.*1 to 100.*121.*--max_regions 121"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays(tmp_path, name):
    values, options, message = BAD[name]
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "9.npy", values)
    options = {"sizes": sizes(tmp_path), **options}
    check_refused(tmp_path / "s", "grid", [tmp_path / "in"], message, **options)


def test_inputs(tmp_path):
    path = folder_of(tmp_path / "in", npy)
    check_refused(tmp_path / "s", "grid", [path], r"size of an image.*--sizes FILE", grid="2x3")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match=r"(?s)no known kind.*a\.txt.*\.safetensors"):
        grid.Layout([str(tmp_path / "a.txt")])
    for data in (b"", b"\xff" * 20, (9).to_bytes(8, "little") + b'{"a": 1}x'):
        (tmp_path / "a.safetensors").write_bytes(data)
        with pytest.raises(DataError, match="not a readable safetensors"):
            safetensors_file.Tensors(str(tmp_path / "a.safetensors"))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["9/other"] = np.ones((4, F))
    options = {"sizes": sizes(tmp_path)}
    message = r"no features.*features.*\['other'\].*--key"
    check_refused(tmp_path / "s", "grid", [tmp_path / "a.h5"], message, **options)
    found = items(grid.Layout([str(tmp_path / "a.h5")], key="other", sizes=sizes(tmp_path)))
    assert [item.features.shape for item in found] == [(4, F)]
