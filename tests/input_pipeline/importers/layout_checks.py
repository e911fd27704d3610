"""What the tests of several layouts do: make images, read them back, refuse bad ones."""

import base64
import pathlib

import numpy as np
import pytest

from core.errors import DataError
from input_pipeline.importers import run
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore

F, C = 8, 5  # feature and class sizes of the tests


def made(i, n=None):
    """An image's arrays, the same each time; boxes are whole pixels of a 40 x 60 image."""
    rng = np.random.default_rng(i)
    n = 1 + i % 3 if n is None else n
    low, extent = rng.integers(0, 20, (n, 2)), rng.integers(1, 20, (n, 2))
    return {
        "boxes": np.concatenate([low, low + extent], 1).astype(np.float32),
        "features": rng.standard_normal((n, F)).astype(np.float32),
        "class_probs": rng.dirichlet(np.ones(C), n).astype(np.float32),
        "height": 40,
        "width": 60,
    }


def encoded(array, dtype="<f4"):
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()


def shares(image):
    """[n, 6] x1, y1, x2, y2, width, height of boxes as shares of the image."""
    boxes = image["boxes"] / np.asarray([60, 40, 60, 40], np.float32)
    return np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], 1).astype(np.float32)


def entries(layout, size=10**9):
    """All (where, raw), by parts of `size`."""
    return [entry for part in layout.parts(size) for entry in layout.entries(part)]


def items(layout, size=10**9):
    return [layout.parse(where, raw) for where, raw in entries(layout, size)]


def check_items(found, ids, images, *, classes=True):
    """Items equal made images, in order."""
    assert [item.image_id for item in found] == list(ids)
    for item, image in zip(found, images, strict=True):
        assert (item.height, item.width) == (image["height"], image["width"])
        np.testing.assert_allclose(item.boxes, image["boxes"], atol=1e-3)
        np.testing.assert_array_equal(item.features, image["features"])
        if classes:
            np.testing.assert_array_equal(item.class_probs, image["class_probs"])
        else:
            assert item.class_probs is None


def check_parts(layout, sizes=(1, 700, 10**9)):
    """Any size of parts gives the same entries; the smallest gives more than one part."""
    whole = [where for where, _ in entries(layout)]
    for size in sizes:
        assert [where for where, _ in entries(layout, size)] == whole
    assert len(layout.parts(sizes[0])) > 1


def check_store(folder, layout, files, ids, images, **options):
    """Imports with the driver and compares the store."""
    done = run.convert(
        layout, list(map(str, files)), folder, ImportSettings(dtype="float32", options=options)
    )
    assert done.images == len(ids)
    store = RegionStore.open(folder)
    assert store.keys == list(ids)
    out = store.allocate(len(ids), 1, 8)
    store.read_into(out, np.arange(len(ids))[:, None])
    for i, image in enumerate(images):
        n = len(image["boxes"])
        assert out["num_detected"][i, 0] == n
        np.testing.assert_allclose(out["boxes"][i, 0, 1 : n + 1], image["boxes"], atol=1e-3)
        np.testing.assert_array_equal(out["regions"][i, 0, 1 : n + 1], image["features"])
    return store


def check_refused(folder, layout, files, message, **options):
    """The driver refuses an input, the message says why, and nothing is left."""
    with pytest.raises(DataError, match=f"(?s){message}") as error:
        run.convert(layout, list(map(str, files)), folder, ImportSettings(options=options))
    text = str(error.value)
    assert "expected:" in text or "found:" in text, text
    folder = pathlib.Path(folder)
    assert not list(folder.parent.glob(folder.name + "*"))
    return text
