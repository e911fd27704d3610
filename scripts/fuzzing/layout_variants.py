"""Other forms of some layouts' inputs: {name: (layout, write)}, `write` as in `layouts`."""

import base64
import json
import pathlib
import pickle
import zlib

import numpy as np

from scripts.fuzzing.layouts import COUNT, F, H, W, image, row, shares, text, write_lmdb

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _cells(i: int) -> np.ndarray:
    """Features [2, 2, F] of the cells of a picture."""
    return np.random.default_rng(i).standard_normal((2, 2, F)).astype(np.float32)


def _sizes(folder: pathlib.Path, name: str = "{}") -> None:
    lines = [f"{name.format(i)}\t{H}\t{W}\n" for i in range(COUNT)]
    (folder / "sizes.tsv").write_text("".join(lines))


def grid_npy(folder: pathlib.Path):
    (folder / "cells").mkdir()
    for i in range(COUNT):
        np.save(folder / "cells" / f"{i}.npy", _cells(i))
    _sizes(folder)
    return ["cells"], dict(grid="2x2", sizes="sizes.tsv")


def grid_rows(folder: pathlib.Path):
    np.save(folder / "x.npy", np.stack([_cells(i) for i in range(COUNT)]))
    (folder / "ids.json").write_text(json.dumps([str(i) for i in range(COUNT)]))
    _sizes(folder)
    return ["x.npy"], dict(grid="2x2", sizes="sizes.tsv", id_map="ids.json")


def grid_hdf5(folder: pathlib.Path):
    import h5py

    with h5py.File(folder / "x.hdf5", "w") as file:
        for i in range(COUNT):
            file[f"{i}_grids"], file[f"{i}_size"] = _cells(i).reshape(4, F), [H, W]
    return ["x.hdf5"], dict(grid="2x2")


def grid_torch(folder: pathlib.Path):
    """A file that torch has written: {"a": [3, 4], 7: [3, 4]}."""
    files = json.loads((ROOT / "tests/input_pipeline/importers/torch_files.json").read_text())
    data = zlib.decompress(base64.b64decode(files["by_id"]["zip"]))
    (folder / "x.pt").write_bytes(data)
    (folder / "sizes.tsv").write_text(f"a\t{H}\t{W}\n7\t{H}\t{W}\n")
    return ["x.pt"], dict(grid="3x1", sizes="sizes.tsv")


def hdf5_joined(folder: pathlib.Path):
    import h5py

    made = [image(i) for i in range(COUNT)]
    ends = np.cumsum([len(one["boxes"]) for one in made])
    with h5py.File(folder / "x.hdf5", "w") as file:
        file["pos_boxes"] = np.stack([np.concatenate([[0], ends[:-1]]), ends], 1)
        for name, key in (("image_features", "features"), ("image_bb", "boxes")):
            file[name] = np.concatenate([one[key] for one in made])
        file["spatial_features"] = np.concatenate([shares(i) for i in range(COUNT)])
    ids = {100 + i: i for i in range(COUNT)}
    (folder / "ids.pkl").write_bytes(pickle.dumps(ids, 2))
    return ["x.hdf5"], dict(id_map="ids.pkl")


def hdf5_groups(folder: pathlib.Path):
    import h5py

    with h5py.File(folder / "x.hdf5", "w") as file:
        for i in range(COUNT):
            group = file.create_group(str(100 + i))
            for name, value in image(i).items():
                group[name] = value
            group["img_h"], group["img_w"] = H, W
    return ["x.hdf5"], {}


def numpy_single(folder: pathlib.Path):
    for i in range(COUNT):
        made = image(i)
        values = dict(features=made["features"], bbox=made["boxes"], image_width=W, image_height=H)
        np.save(folder / f"{i}.npy", values, allow_pickle=True)
    return ["."], {}


def numpy_bottom_up(folder: pathlib.Path):
    for i in range(COUNT):
        made = image(i)
        np.savez(folder / f"{i}.npz", x=made["features"], bbox=made["boxes"], image_w=W, image_h=H,
                 num_bbox=len(made["boxes"]))  # fmt: skip
    return ["."], {}


def numpy_cocobu(folder: pathlib.Path):
    for name in ("x_att", "x_box"):
        (folder / name).mkdir()
    for i in range(COUNT):
        made = image(i)
        np.savez(folder / "x_att" / f"{i}.npz", feat=made["features"])
        np.save(folder / "x_box" / f"{i}.npy", made["boxes"])
    _sizes(folder)
    return ["x_att"], dict(sizes="sizes.tsv")


def lxmert_tsv(folder: pathlib.Path):
    lines = []
    for i in range(COUNT):
        made = row(i)
        count = made["num_boxes"]
        values = [made["image_id"], H, W, *[np.zeros(count, np.float32)] * 4, count]
        lines.append("\t".join(map(text, [*values, made["boxes"], made["features"]])))
    (folder / "x.tsv").write_text("\n".join(lines) + "\n")
    return ["x.tsv"], dict(feature_dim=F)


def first_vilbert_lmdb(folder: pathlib.Path):
    """All text, arrays as base64: the row of a TSV file."""
    values = {}
    for i in range(COUNT):
        record = {key: text(value).encode() for key, value in row(i).items()}
        values[record["image_id"]] = pickle.dumps(record)
    values[b"keys"] = pickle.dumps(list(values))
    write_lmdb(folder / "x.mdb", values)
    return ["x.mdb"], {}


def mmf_lmdb(folder: pathlib.Path):
    values = {}
    for i in range(COUNT):
        made = image(i)
        record = dict(feature_path=str(100 + i), features=made["features"], bbox=made["boxes"],
                      image_height=H, image_width=W, num_boxes=len(made["boxes"]),
                      cls_prob=made["cls_prob"].max(1))  # fmt: skip
        values[str(100 + i).encode()] = pickle.dumps(record)
    values[b"keys"] = pickle.dumps(list(values))
    write_lmdb(folder / "x.mdb", values)
    return ["x.mdb"], {}


LAYOUT_VARIANTS = {
    "grid .npy": ("grid", grid_npy),
    "grid rows": ("grid", grid_rows),
    "grid hdf5": ("grid", grid_hdf5),
    "grid torch": ("grid", grid_torch),
    "hdf5 joined": ("hdf5", hdf5_joined),
    "hdf5 groups": ("hdf5", hdf5_groups),
    "numpy_folder single": ("numpy_folder", numpy_single),
    "numpy_folder bottom-up": ("numpy_folder", numpy_bottom_up),
    "numpy_folder COCO-BU": ("numpy_folder", numpy_cocobu),
    "bottom_up_tsv LXMERT": ("bottom_up_tsv", lxmert_tsv),
    "vilbert_lmdb first": ("vilbert_lmdb", first_vilbert_lmdb),
    "vilbert_lmdb MMF": ("vilbert_lmdb", mmf_lmdb),
}
