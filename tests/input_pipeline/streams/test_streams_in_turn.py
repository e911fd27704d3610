"""Streams that take turns: read ahead by batches, however many streams there are."""

import itertools
import threading

import numpy as np
import pytest

from input_pipeline.streams import pipeline

ROWS = 1000  # of a batch: enough for its arrays to be told from what is empty


class Counted:
    """A stream that knows how many of its batches were read."""

    def __init__(self, number):
        self.number, self.read, self.examples = number, 0, 0
        self._lock = threading.Lock()

    def batch(self, draw, shard):
        with self._lock:
            self.read += 1
        return {"x": np.full((ROWS, 2), 100 * self.number + draw), f"own_{self.number}": np.ones(3)}

    def example(self, shard):
        self.examples += 1
        return self.batch(0, shard)


@pytest.mark.parametrize("count", [2, 12])
def test_what_is_read_ahead_does_not_grow_with_the_streams(count):
    streams = {f"s{n}": Counted(n) for n in range(count)}
    plan = ({f"s{k % count}": k // count} for k in itertools.count())
    examples = {name: stream.example((0, 1)) for name, stream in streams.items()}
    before = sum(stream.read for stream in streams.values())
    updates = pipeline.read_ahead(streams, plan, threads=2, prefetch=3, examples=examples)
    for step, (draws, batch) in enumerate(itertools.islice(updates, 30)):
        name = f"s{step % count}"
        assert draws == {name: step // count}
        assert set(batch) == {name}
        number = streams[name].number
        assert set(batch[name]) == {"x", f"own_{number}"}
        assert (batch[name]["x"] == 100 * number + step // count).all()
        read = sum(stream.read for stream in streams.values()) - before
        # In threads, ready, and one that waits to be ready.
        assert read - (step + 1) <= 2 + 3 + 1
    assert all(stream.examples == 1 for stream in streams.values())
