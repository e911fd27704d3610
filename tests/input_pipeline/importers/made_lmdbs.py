"""Small LMDB databases for the tests of three layouts."""

import os

import lmdb
import numpy as np

F, C = 6, 5


def image(i, n=None):
    """The arrays of image i, the same each time; sizes differ from image to image."""
    rng = np.random.default_rng(i)
    n = 2 + i % 3 if n is None else n
    low, high = rng.uniform(0, 40, (n, 2)), rng.uniform(40, 80, (n, 2))
    return {
        "image_id": str(100 + i),
        "image_h": 90 + i,
        "image_w": 120 + i,
        "num_boxes": n,
        "boxes": np.concatenate([low, high], 1).astype(np.float32),
        "features": rng.standard_normal((n, F)).astype(np.float32),
        "cls_prob": rng.dirichlet(np.ones(C), n).astype(np.float32),
    }


def write(path, records, *, subdir=True):
    """Writes {key: value}, both bytes, as a folder or as one file."""
    with (
        lmdb.open(str(path), subdir=subdir, map_size=2**22, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in records.items():
            transaction.put(key, value)
    return str(path)


def data_file(path):
    return os.path.join(path, "data.mdb") if os.path.isdir(path) else path


def entries(layout, size=2**30):
    """All (where, raw) of a layout, part by part."""
    return [entry for part in layout.parts(size) for entry in layout.entries(part)]


def items(layout, size=2**30):
    return [layout.parse(*entry) for entry in entries(layout, size)]


def check_image(item, i, *, classes=True, rtol=0.0):
    """An Item is image i."""
    made = image(i)
    assert (item.image_id, item.height, item.width) == (made["image_id"], 90 + i, 120 + i)
    np.testing.assert_allclose(item.boxes, made["boxes"], rtol=rtol)
    np.testing.assert_allclose(item.features, made["features"], rtol=rtol)
    if classes:
        np.testing.assert_allclose(item.class_probs, made["cls_prob"], rtol=rtol)
    else:
        assert item.class_probs is None
    assert item.global_feature is None
