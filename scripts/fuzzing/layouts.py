"""Small sound inputs of every layout of region features: `write(folder)` → (files, options)."""

import base64
import io
import json
import pathlib
import pickle
import tarfile
import zipfile

import numpy as np

F, C, H, W = 6, 5, 40, 60  # feature size, classes, image size
COUNT = 4


def image(i: int) -> dict[str, np.ndarray]:
    """An image's boxes [n, 4], features [n, F], distributions [n, C]."""
    rng = np.random.default_rng(i)
    n = 2 + i % 2
    low, extent = rng.integers(0, 20, (n, 2)), rng.integers(1, 20, (n, 2))
    return dict(
        boxes=np.concatenate([low, low + extent], 1).astype(np.float32),
        features=rng.standard_normal((n, F)).astype(np.float32),
        cls_prob=rng.dirichlet(np.ones(C), n).astype(np.float32),
    )


def row(i: int) -> dict:
    """The fields that most layouts share."""
    made = image(i)
    sizes = dict(image_id=str(100 + i), image_w=W, image_h=H, num_boxes=len(made["boxes"]))
    return sizes | made


def text(value) -> str:
    """A cell of a TSV file: arrays in base64."""
    return (
        base64.b64encode(value.tobytes()).decode() if isinstance(value, np.ndarray) else str(value)
    )


def shares(i: int) -> np.ndarray:
    """[n, 6] x1, y1, x2, y2, width, height of boxes as shares of the image."""
    boxes = image(i)["boxes"] / np.asarray([W, H, W, H], np.float32)
    return np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], 1).astype(np.float32)


def bottom_up_tsv(folder: pathlib.Path):
    lines = ["\t".join(text(value) for value in row(i).values()) for i in range(COUNT)]
    (folder / "x.tsv").write_text("\n".join(lines) + "\n")
    return ["x.tsv"], dict(feature_dim=F, num_classes=C)


def vinvl_tsv(folder: pathlib.Path):
    lines = []
    for i in range(COUNT):
        made = image(i)
        placed = np.concatenate([made["features"], shares(i)], 1)
        objects = [
            {"rect": box.tolist(), "class": "dog", "conf": 0.5, "feature": text(x)}
            for box, x in zip(made["boxes"], placed, strict=True)
        ]
        values = dict(image_h=H, image_w=W, num_boxes=len(objects), objects=objects)
        lines.append(f"{100 + i}\t{json.dumps(values)}")
    (folder / "x.tsv").write_text("\n".join(lines) + "\n")
    return ["x.tsv"], dict(feature_dim=F)


def vlbert_json(folder: pathlib.Path):
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(COUNT):
            values = {key: text(v) if isinstance(v, np.ndarray) else v for key, v in row(i).items()}
            values["classes"] = values.pop("cls_prob")
            file.writestr(f"train/{i:08d}.json", json.dumps(values))
    return ["x.zip"], dict(feature_dim=F, num_classes=C)


def numpy_folder(folder: pathlib.Path):
    for i in range(COUNT):
        made = image(i)
        info = dict(bbox=made["boxes"], num_boxes=len(made["boxes"]), image_height=H, image_width=W,
                    cls_prob=made["cls_prob"])  # fmt: skip
        np.save(folder / f"{i}.npy", made["features"])
        np.save(folder / f"{i}_info.npy", info)
    return ["."], {}


def npz(folder: pathlib.Path):
    made = [image(i) for i in range(COUNT)]
    counts = [len(one["boxes"]) for one in made]
    feat = [np.concatenate([np.full((1, F), i), one["features"]]) for i, one in enumerate(made)]
    np.savez(
        folder / "x.npz",
        paths=np.asarray([f"dir/{i}.jpg" for i in range(COUNT)]),
        hw=np.asarray([(H, W)] * COUNT),
        offset=np.concatenate([[0], np.cumsum(counts)]),
        boxes=np.concatenate([one["boxes"] for one in made]),
        cls_prob=np.concatenate([one["cls_prob"] for one in made]).astype(np.float16),
        objects_id=np.zeros(sum(counts), np.int16),
        feat=np.concatenate(feat).astype(np.float16),
    )
    return ["x.npz"], {}


def hdf5(folder: pathlib.Path):
    import h5py

    made = [image(i) for i in range(COUNT)]

    def padded(key: str) -> np.ndarray:
        out = np.zeros((COUNT, 3, made[0][key].shape[1]), np.float32)
        for to, one in zip(out, made, strict=True):
            to[: len(one[key])] = one[key]
        return out

    with h5py.File(folder / "x.h5", "w") as file:
        file["image_ids"] = np.arange(100, 100 + COUNT)
        file["num_boxes"] = np.asarray([len(one["boxes"]) for one in made])
        for key in ("features", "boxes", "cls_prob"):
            file.create_dataset(key, data=padded(key), chunks=(1, 3, padded(key).shape[2]),
                                compression="gzip")  # fmt: skip
        file["image_w"], file["image_h"] = np.full(COUNT, W), np.full(COUNT, H)
    return ["x.h5"], {}


def uniter_lmdb(folder: pathlib.Path):
    values = {}
    for i in range(COUNT):
        made, out = image(i), io.BytesIO()
        np.savez_compressed(
            out,
            norm_bb=shares(i).astype(np.float16),
            features=made["features"].astype(np.float16),
            conf=made["cls_prob"][:, 1:].max(1).astype(np.float16),
            soft_labels=made["cls_prob"].astype(np.float16),
        )
        values[f"coco_{i}.npz".encode()] = out.getvalue()
    values[b"__keys__"] = json.dumps([key.decode() for key in values]).encode()
    write_lmdb(folder / "x.mdb", values)
    (folder / "sizes.tsv").write_text("".join(f"coco_{i}\t{H}\t{W}\n" for i in range(COUNT)))
    return ["x.mdb"], dict(sizes="sizes.tsv")


def vilbert_lmdb(folder: pathlib.Path):
    values = {}
    for i in range(COUNT):
        record = {key: value for key, value in row(i).items() if key != "cls_prob"}
        values[record["image_id"].encode()] = pickle.dumps(record)
    values[b"keys"] = pickle.dumps(list(values))
    write_lmdb(folder / "x.mdb", values)
    return ["x.mdb"], {}


def conceptual_lmdb(folder: pathlib.Path):
    import msgpack

    from input_pipeline.importers.conceptual_lmdb import FIELDS

    def packed(value):
        return {b"nd": True, b"type": value.dtype.str, b"kind": b"", b"shape": value.shape,
                b"data": value.tobytes()}  # fmt: skip

    values = {
        f"{i:08}".encode(): msgpack.packb(
            [(row(i) | dict(caption=f"a dog {i}"))[name] for name in FIELDS],
            default=packed,
            use_bin_type=True,
        )
        for i in range(COUNT)
    }
    values[b"__keys__"] = msgpack.packb(list(values), use_bin_type=True)
    write_lmdb(folder / "x.mdb", values)
    return ["x.mdb"], {}


def grid(folder: pathlib.Path):
    for i in range(COUNT):
        tensor = np.random.default_rng(i).standard_normal((4, F)).astype(np.float32)
        header = {"x": {"dtype": "F32", "shape": [4, F], "data_offsets": [0, tensor.nbytes]}}
        head = json.dumps(header).encode()
        data = len(head).to_bytes(8, "little") + head + tensor.tobytes()
        (folder / f"{i}.safetensors").write_bytes(data)
    (folder / "sizes.tsv").write_text("".join(f"{i}\t{H}\t{W}\n" for i in range(COUNT)))
    return ["."], dict(grid="2x2", sizes="sizes.tsv")


def parquet(folder: pathlib.Path):
    import pyarrow as pa
    import pyarrow.parquet

    rows = [{key: getattr(v, "tolist", lambda v=v: v)() for key, v in row(i).items()}
            for i in range(COUNT)]  # fmt: skip
    table = pa.Table.from_pylist(rows)
    pa.parquet.write_table(table, folder / "x.parquet", row_group_size=2)
    return ["x.parquet"], {}


def webdataset(folder: pathlib.Path):
    with tarfile.open(folder / "x.tar", "w") as archive:
        for i in range(COUNT):
            made = image(i)
            members = {"json": json.dumps(dict(height=H, width=W)).encode()}
            for name, array in made.items():
                out = io.BytesIO()
                np.save(out, array)
                members[f"{name}.npy"] = out.getvalue()
            for ending, data in members.items():
                info = tarfile.TarInfo(f"{i}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return ["x.tar"], {}


def write_lmdb(path: pathlib.Path, values: dict[bytes, bytes]) -> None:
    """A database in one file."""
    import lmdb

    options = dict(subdir=False, lock=False, map_size=2**22)
    with (
        lmdb.open(str(path), **options) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in values.items():
            transaction.put(key, value)


LAYOUTS = {
    made.__name__: made
    for made in (
        bottom_up_tsv,
        vinvl_tsv,
        vlbert_json,
        numpy_folder,
        npz,
        hdf5,
        uniter_lmdb,
        vilbert_lmdb,
        conceptual_lmdb,
        grid,
        parquet,
        webdataset,
    )
}
