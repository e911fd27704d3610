"""Predicts referring expressions with a task that needs no training; also as one of two processes.

The features of a region say how well it fits; 21 expressions in batches of 8 leave 3 rows that
pad the last batch.
"""

import json
import os
import sys
import types

from tests import made_objectives

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from ml_collections import ConfigDict

from evaluation import predict
from input_pipeline.datasets.records import Expression
from input_pipeline.datasets.records.table import RecordList
from objectives import grounding
from runtime import sharding

EXAMPLES, BATCH, REGIONS = 21, 8, 5
BLOCK = dict(classifier="1fc", dropout=0.0, target="binary", normalize="candidates",
             hit="at_least_half", weight=1.0)  # fmt: skip
HEIGHT, WIDTH = 50, 80  # of every image in a batch


class Model:
    """A region's score is its first feature times a parameter."""

    def __init__(self):
        self.streams = {
            "examples": [
                grounding.Grounding("grounding", ConfigDict(BLOCK), made_objectives.DATA_INFO)
            ]
        }

    def outputs(self, params, name, batch):
        return {"regions": batch["regions"][:, 0] * params}

    def head(self, params, name):
        return lambda states: states[..., :1]


class Store:
    """Image i is i + 2 times as high, and twice as wide, as the batch has it."""

    heights = HEIGHT * (np.arange(EXAMPLES) + 2)
    widths = np.full(EXAMPLES, 2 * WIDTH)

    def rows_of(self, keys):
        return np.asarray([int(key.removeprefix("img")) for key in keys])


class Stream:
    """Example i is on image i; its best region is 1 + i % 4, but padding looks better still."""

    num_examples, steps_per_epoch, batch_size, store = EXAMPLES, 3, BATCH, Store()

    def text_id(self, example):
        return f"text{example}"

    def batch(self, draw, shard):
        index, count = shard
        size = BATCH // count
        place = draw * BATCH + index * size + np.arange(size)
        row = np.minimum(place, EXAMPLES - 1)
        features = np.zeros((size, 1, REGIONS, 2), np.float32)
        features[np.arange(size), 0, 1 + row % 4, 0] = 1
        mask = np.ones((size, 1, REGIONS), bool)
        mask[row % 4 < 3, :, -1] = False
        features[~mask] = 9
        boxes = np.zeros((size, 1, REGIONS, 4), np.float32)
        boxes[..., 0, 2:] = WIDTH - 1, HEIGHT - 1
        boxes[..., 1:, :] = 4 * np.arange(1, REGIONS)[:, None] + np.arange(4)
        return dict(
            regions=features, region_mask=mask, boxes=boxes,
            region_iou=np.zeros((size, 1, REGIONS), np.float32),
            image_size=np.broadcast_to(np.float32([HEIGHT, WIDTH]), (size, 1, 2)),
            image_key=row[:, None].astype(np.int32), example_index=row.astype(np.int32),
            _weight=(place < EXAMPLES).astype(np.float32),
        )  # fmt: skip


def box_of(i):
    """In original pixels, by hand."""
    x = 4 * (1 + i % 4) + np.arange(4)
    return (x * [2, i + 2, 2, i + 2]).tolist()


def record(i):
    return Expression(f"text{i}", 100 + i, f"img{i}", f"thing {i}", tuple(box_of(i)))


def evaluation_stream():
    shard = (jax.process_index(), jax.process_count())
    stream = Stream()

    def pick(draws):
        return (stream.batch(draw, shard) for draw in draws)

    return types.SimpleNamespace(
        split="val", dataset="refcoco", record_kind="", output_names=(), answers=(), pick=pick,
        num_examples=EXAMPLES, steps_per_epoch=stream.steps_per_epoch, store=stream.store,
        text_id=stream.text_id,
        batches=lambda: pick(range(stream.steps_per_epoch)),
        records=RecordList(map(record, range(EXAMPLES))), pictures=lambda ids: {},
    )  # fmt: skip


def predictor():
    mesh = sharding.make_mesh(dict(data=-1, fsdp=1, tensor=1))
    place = lambda batch: sharding.place(batch, mesh)  # noqa: E731
    return predict.Predictor(Model(), "examples", evaluation_stream(), place)


if __name__ == "__main__":
    out, port, index = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"localhost:{port}", 2, int(index))
    with open(out, "w") as file:
        json.dump(list(predictor().run(1.0)), file)
