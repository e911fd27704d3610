"""Reading ahead through tf.data: the same batches in the same order, and errors as they were."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from made_data import ASSEMBLE, config, write_all
from test_stream import equal
from test_stream_faults import damage

from core.errors import DataError
from input_pipeline.streams import pipeline


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    folder = write_all(tmp_path_factory.mktemp("iterate"))
    (folder / "corpus.txt").write_text("the red dog\na big house\n")
    tree = config(folder, text_batch=2, corpus=str(folder / "corpus.txt"))
    return pipeline.build_streams(tree, ASSEMBLE, image_margin=0)


def test_batches_come_in_order_and_uncast(streams):
    got = itertools.islice(pipeline.iterate(streams, {"captions": 5}, threads=3), 12)
    for step, batch in enumerate(got):
        assert list(batch) == ["captions", "text"]
        equal(batch["captions"], streams["captions"].batch(5 + step))
        equal(batch["text"], streams["text"].batch(step))
        assert batch["captions"]["regions"].dtype == ml_dtypes.bfloat16
        assert type(batch["captions"]["regions"]) is np.ndarray


def test_shards_and_steps(streams):
    captions = {"captions": streams["captions"]}
    parts = [list(pipeline.iterate(captions, shard=(i, 2), steps=3, threads=2)) for i in range(2)]
    assert [len(part) for part in parts] == [3, 3]
    for step, (a, b) in enumerate(zip(*parts, strict=True)):
        joined = {k: np.concatenate([a["captions"][k], b["captions"][k]]) for k in a["captions"]}
        equal(joined, streams["captions"].batch(step))
    assert len(list(pipeline.iterate(captions, steps=1))) == 1
    with pytest.raises(DataError, match="threads=0"):
        next(pipeline.iterate(captions, threads=0))


def test_errors_arrive_at_their_batch(tmp_path):
    stream = pipeline.build_streams(damage(None, tmp_path, 5), ASSEMBLE, image_margin=0)["captions"]
    good = 0
    while True:  # the first batch that cannot be read
        try:
            stream.batch(good)
        except DataError as error:
            want = str(error)
            break
        good += 1
    batches = pipeline.iterate({"captions": stream}, threads=2, prefetch=2)
    for _ in range(good):
        next(batches)
    with pytest.raises(DataError) as error:
        next(batches)
    assert str(error.value) == want
    assert "example 'img5#" in want


def test_streams_come_when_the_plan_says(streams):
    plan = [{"text": 3}, {"captions": 0, "text": 4}, {"captions": 1}, {"text": 5}, {"captions": 2}]
    got = list(pipeline.read_ahead(streams, iter(plan), threads=3, prefetch=2))
    assert [draws for draws, _ in got] == plan
    for draws, batch in got:
        assert list(batch) == [name for name in streams if name in draws]
        for name, draw in draws.items():
            equal(batch[name], streams[name].batch(draw))


def test_nothing_to_read_is_an_error(streams):
    with pytest.raises(DataError, match="nothing to iterate over"):
        next(pipeline.read_ahead(streams, iter([])))
