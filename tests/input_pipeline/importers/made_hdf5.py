"""HDF5 files of regions of all kinds, for tests."""

import json
import pickle

import h5py
import numpy as np
from layout_checks import (
    made,
    shares,
)

N = 4


IMAGES = [made(i) for i in range(N)]


IDS = ["30", "10", "20", "40"]


def write(path, values):
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            if value is not None:
                file[name] = value
    return str(path)


def padded(values, rows=3):
    out = np.zeros((len(values), rows, values[0].shape[1]), np.float32)
    for row, value in zip(out, values, strict=True):
        row[: len(value)] = value
    return out


def stacked(**changes):
    """ViLBERT's older files."""
    values = {
        "image_ids": np.asarray([int(name) for name in IDS]),
        "num_boxes": np.asarray([len(image["boxes"]) for image in IMAGES]),
        "features": padded([image["features"] for image in IMAGES]),
        "boxes": padded([image["boxes"] for image in IMAGES]),
        "cls_prob": padded([image["class_probs"] for image in IMAGES]),
        "image_w": np.full(N, 60),
        "image_h": np.full(N, 40),
    }
    return {**values, **changes}


def joined(**changes):
    """Adaptive numbers of boxes, as converters for bottom-up attention write them."""
    ends = np.cumsum([len(image["boxes"]) for image in IMAGES])
    values = {
        "image_features": np.concatenate([image["features"] for image in IMAGES]),
        "image_bb": np.concatenate([image["boxes"] for image in IMAGES]),
        "spatial_features": np.concatenate([shares(image) for image in IMAGES]),
        "pos_boxes": np.stack([np.concatenate([[0], ends[:-1]]), ends], 1).astype(np.int32),
    }
    return {**values, **changes}


def groups(**changes):
    """Volta's files; HDF5 sorts the groups by name."""
    values = {}
    for name, image in zip(IDS, IMAGES, strict=True):
        values[f"{name}/features"] = image["features"]
        values[f"{name}/boxes"] = image["boxes"]
        values[f"{name}/obj_id"] = np.zeros(len(image["boxes"]), np.int64)
        values[f"{name}/img_w"], values[f"{name}/img_h"] = 60, 40
    return {**values, **changes}


def id_map(path, value=None):
    value = {int(name): row for row, name in enumerate(IDS)} if value is None else value
    if str(path).endswith(".json"):
        path.write_text(json.dumps(value))
    else:
        path.write_bytes(pickle.dumps(value, 2))
    return str(path)


def write_sizes(path, ids=IDS):
    path.write_text("".join(f"{name}\t40\t60\n" for name in ids))
    return str(path)
