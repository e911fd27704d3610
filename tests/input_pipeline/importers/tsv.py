"""Small bottom-up-attention files."""

import base64

import numpy as np
from made_data import SPEC, C, F, image

from input_pipeline.importers.bottom_up_tsv import ORDERS

OPTIONS = {"feature_dim": F, "num_classes": C}
PLAIN, CLASSES, ATTRIBUTES, LXMERT, LXMERT_CLASSES = ORDERS


def blob(array, dtype="<f4"):
    return base64.b64encode(np.asarray(array).astype(dtype).tobytes())


def cells(i, n=None, dtype="<f4", **changed):
    """{column: text} of image i (see made_data.image)."""
    made = image(i, n, SPEC)
    n = len(made["boxes"])
    row = {
        "image_id": b"%d" % i,
        "image_w": b"%d" % made["width"],
        "image_h": b"%d" % made["height"],
        "num_boxes": b"%d" % n,
        "boxes": blob(made["boxes"], dtype),
        "features": blob(made["features"], dtype),
        "cls_prob": blob(made["class_probs"], dtype),
        "objects_id": blob(np.arange(n), "<i8"),
        "objects_conf": blob(np.ones(n)),
        "attrs_id": blob(np.arange(n), "<i8"),
        "attrs_conf": blob(np.ones(n)),
        "attr_prob": blob(np.ones((n, 3))),
        "cls_idx": blob(np.arange(n)),
        "attr_idx": blob(np.arange(n)),
    }
    return {**row, **changed}


def line(order, i, n=None, dtype="<f4", **changed):
    row = cells(i, n, dtype, **changed)
    return b"\t".join(row[name] for name in order)


def even(i, **changed):
    """A line of image i that is as long as any other: with parts of EVEN bytes, each is a part."""
    return line(
        PLAIN, i, n=1, **{"image_id": b"%04d" % i, "image_w": b"99", "image_h": b"99", **changed}
    )


EVEN = len(even(0)) + 1


def write(path, lines, end=b"\n"):
    path.write_bytes(b"".join(text + end for text in lines))
    return str(path)


def write_images(path, images, order=PLAIN, **changed):
    return write(path, [line(order, i, **changed) for i in images])
