"""A made-up region store and a training stream of made-up captions, for benchmarks."""

import pathlib

import numpy as np
from ml_collections import ConfigDict

from configs import common
from input_pipeline.regions import FeatureSpec, RegionStore, RegionWriter
from input_pipeline.streams.plan import DrawSettings
from input_pipeline.streams.source import Source
from input_pipeline.streams.stream import Stream
from input_pipeline.texts.tables import Row, build_table
from input_pipeline.texts.tokenizer import Tokenizer, train_wordpiece
from objectives import assemble

WORDS = ("man", "woman", "dog", "cat", "on", "with", "red", "blue", "bench", "street", "holding")


def make_store(folder: str, args) -> None:
    """Random features of `args.images` images, made in a few seconds."""
    rng = np.random.default_rng(0)
    spec = FeatureSpec(
        "synthetic",
        args.dim,
        num_classes=args.classes,
        background_class=0,
        max_regions=args.regions,
        dtype=args.dtype,
    )
    n = args.regions
    features = rng.standard_normal((n, args.dim), np.float32)
    probs = rng.dirichlet(np.full(args.classes, 0.05), n)
    corners = rng.uniform(0, 400, (n, 4))
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]),
                            np.maximum(corners[:, :2], corners[:, 2:])], 1)  # fmt: skip
    with RegionWriter(folder, spec) as writer:
        for i in range(args.images):
            writer.add(f"{i}", boxes=boxes, features=np.roll(features, i, 1), height=480, width=640,
                       class_probs=probs)  # fmt: skip


def make_stream(store: RegionStore, folder: str, args, block: int, texts: int = 2) -> Stream:
    """A training stream of random captions, `texts` an image, in blocks of `block` examples."""
    rng = np.random.default_rng(1)
    rows = [
        Row(key, " ".join(rng.choice(WORDS, 11)), f"{key}#{i}")
        for key in store.keys
        for i in range(texts)
    ]
    pathlib.Path(folder).mkdir(exist_ok=True)
    train_wordpiece([row.text for row in rows[:1000]], 400, f"{folder}/vocab.txt")
    tokenizer = Tokenizer.load(f"{folder}/vocab.txt")
    table = build_table(rows, tokenizer, f"{folder}/table", source="benchmark")
    options = common.stream_block((), args.batch)
    options.update(
        max_regions=args.regions + 1,
        max_length=64 + args.regions + 1,
        resize=(600, 1000),
        flip="boxes",
        block=block,
        order=args.order,
    )
    source = Source(table, np.arange(len(table)), store, store.rows_of(table.images))
    return Stream("captions", source, ConfigDict(options), assemble.caption, tokenizer,
                  DrawSettings(seed=0, batch_size=args.batch, training=True))  # fmt: skip
