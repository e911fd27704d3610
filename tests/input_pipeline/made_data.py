"""Small files for the tests of the input pipeline."""

import json
import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from configs import common
from input_pipeline.regions import FeatureSpec, RegionWriter

F, C = 6, 5
SPEC = FeatureSpec("toy", F, num_classes=C, background_class=0, top_k=3, max_regions=9)
REAL = pathlib.Path(
    os.environ.get("VL_DATA_DIR_REAL", pathlib.Path(__file__).parents[3] / "shared" / "data")
)
WORDS = ("the", "red", "dog", "cat", "sits", "left", "right", "of", "a", "big", "house", "tree")


def image(i, n=None, spec=SPEC):
    """Arguments of RegionWriter.add for image i, the same each time."""
    rng = np.random.default_rng(i)
    n = 1 + i % 5 if n is None else n
    low, high = rng.uniform(0, 40, (n, 2)), rng.uniform(40, 80, (n, 2))
    out = {
        "boxes": np.concatenate([low, high], 1).astype(np.float32),
        "features": rng.standard_normal((n, spec.feature_dim)).astype(np.float32),
        "height": 90 + i,
        "width": 100 + i,
    }
    if spec.num_classes:
        out["class_probs"] = rng.dirichlet(np.ones(spec.num_classes), n)
    if spec.global_feature == "stored":
        out["global_feature"] = rng.standard_normal(spec.feature_dim)
    return out


def write_images(folder, spec, *images, **options):
    """Writes (id, arguments) pairs."""
    with RegionWriter(folder, spec) as writer:
        for name, arguments in images:
            writer.add(name, **arguments, **options)


def write_store(folder, images=8, spec=SPEC, first=0, shard_bytes=500, n=None):
    with RegionWriter(folder, spec, shard_bytes=shard_bytes) as writer:
        for i in range(first, first + images):
            writer.add(f"img{i}", **image(i, n, spec))
    return str(folder)


def text_of(i):
    rng = np.random.default_rng(1000 + i)
    return " ".join(rng.choice(WORDS, rng.integers(3, 9)))


def write_jsonl(path, rows):
    pathlib.Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def captions(images=8, texts=2, first=0):
    return [
        {"image_id": f"img{i}", "text": [text_of(i * 10 + k) for k in range(texts)]}
        for i in range(first, first + images)
    ]


def assemble(table, rows, special, max_text):
    """[CLS] pieces [SEP]."""
    got, at = table.gather(rows, max_text - 2), np.arange(len(rows))
    length = got["lengths"] + 2
    mask = np.arange(max_text) < length[:, None]
    ids = np.full((len(rows), max_text), special.pad, np.int32)
    ids[:, 1:-1] = np.where(mask[:, 2:], got["ids"], special.pad)
    ids[:, 0], ids[at, length - 1] = special.cls, special.sep
    starts = np.zeros(ids.shape, bool)
    starts[:, 1:-1] = got["word_starts"]
    starts[:, 0] = starts[at, length - 1] = True
    out = {
        "text_ids": ids,
        "text_mask": mask,
        "segment_ids": np.zeros_like(ids),
        "word_starts": starts,
    }
    if "probe" in got:
        out["probe_kind"] = np.pad(got["probe"], ((0, 0), (1, 1))).astype(np.int32)
    return {key: value[:, None] for key, value in out.items()}


def assemble_plain(table, rows, special, max_text):
    got = table.gather(rows, max_text, cyclic=True)
    out = {
        "text_ids": got["ids"],
        "text_mask": np.ones(got["ids"].shape, bool),
        "segment_ids": np.zeros_like(got["ids"]),
        "word_starts": got["word_starts"],
    }
    return {key: value[:, None] for key, value in out.items()}


ASSEMBLE = {"captions": assemble, "text": assemble_plain}


def config(folder, *, batch=4, text_batch=0, stream=None, **data):
    """A config over `<folder>/captions.jsonl` and `<folder>/store`."""
    tree = {
        "seed": 7,
        "overfit": 0,
        "data": common.data_block("jsonl"),
        "streams": {
            "captions": common.stream_block((), batch),
            "text": common.stream_block((), text_batch, images=False),
        },
    }
    tree = ConfigDict(tree)
    tree.data.update(
        dir=str(folder / "cache"),
        annotations=str(folder / "captions.jsonl"),
        regions=str(folder / "store"),
        vocab_size=180,
    )
    tree.data.update(data)
    tree.streams.captions.update(max_text=10, max_regions=6, max_length=16)
    tree.streams.captions.update(stream or {})
    tree.streams.text.update(max_text=7)
    return tree


def write_all(folder, images=8, texts=2):
    """Store and captions under a folder."""
    write_store(folder / "store", images)
    write_jsonl(folder / "captions.jsonl", captions(images, texts))
    return folder


def leftovers(folder):
    """Names of everything under a folder."""
    return sorted(str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob("*"))
