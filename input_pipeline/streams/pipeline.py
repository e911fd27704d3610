"""From a config to host batches: plans the streams and reads ahead with tf.data.

Device placement is not done here, and nothing here needs jax. TensorFlow is imported by
`read_ahead` alone.
"""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from core.errors import DataError
from input_pipeline.streams.catalog import DataCatalog
from input_pipeline.streams.data import Data
from input_pipeline.streams.plan import DrawSettings
from input_pipeline.streams.stream import Stream

__all__ = [
    "Data",
    "DataCatalog",
    "Stream",
    "build_evaluation",
    "build_streams",
    "iterate",
    "read_ahead",
]


def _stream(
    config,
    catalog: DataCatalog,
    name: str,
    assemble: Mapping,
    split: str,
    *,
    batch_size: int,
    training: bool,
    vocab_size: int | None,
    image_margin: int,
    longest_text: int = 0,
    overfit: int = 0,
    other_image: bool = False,
) -> Stream:
    if name not in assemble:
        raise DataError(
            "a stream has no assemble function",
            where=f"stream {name!r}",
            expected=f"one of {sorted(assemble)}",
            found=name,
        )
    data, block, images = catalog.of(name), catalog.block(name), config.streams[name].images
    source = data.captions(split) if images else data.corpus()
    source.table.check_vocabulary(vocab_size or data.special.vocab_size)
    weights = tuple(block.weights if images else block.corpus_weights)
    settings = DrawSettings(
        config.seed, batch_size, training, weights, overfit, image_margin, longest_text
    )
    return Stream(
        name,
        source,
        config.streams[name],
        assemble[name],
        data.tokenizer,
        settings,
        other_image=other_image,
    )


def build_streams(
    config,
    assemble: Mapping[str, Callable],
    *,
    image_margin: int,
    catalog: DataCatalog | None = None,
    vocab_size: int | None = None,
) -> dict[str, Stream]:
    """The training streams of a config; a stream with batch_size 0 is left out.

    Args:
      config: of the run; read are streams, data, seed and overfit.
      assemble: {stream: assemble function} (see Stream).
      catalog: of the config, where there is one already.
      vocab_size: V of the model, where it is not the vocabulary file's.
      image_margin: of the model, see `DrawSettings`.

    Raises:
      DataError: whatever is wrong with config or data.
    """
    catalog = catalog or DataCatalog(config)
    streams = {
        name: _stream(
            config,
            catalog,
            name,
            assemble,
            "train",
            batch_size=options.batch_size,
            training=True,
            overfit=config.overfit,
            vocab_size=vocab_size,
            image_margin=image_margin,
        )
        for name, options in config.streams.items()
        if options.batch_size
    }
    if not streams:
        raise DataError(
            "no stream to train on",
            where="config.streams",
            expected="a stream with batch_size > 0",
            found={name: options.batch_size for name, options in config.streams.items()},
        )
    catalog.check_clean()
    return streams


def build_evaluation(
    config,
    name: str,
    assemble: Mapping[str, Callable],
    *,
    image_margin: int,
    split: str = "eval",
    batch_size: int,
    other_image: bool = False,
    catalog: DataCatalog | None = None,
    vocab_size: int | None = None,
    longest_text: int = 0,
) -> Stream:
    """A stream that brings every example of a split once, in order.

    Args:
      config: of the run.
      name: of the stream whose options hold. Plain text has one corpus for all splits.
      assemble: {stream: assemble function}.
      split: "train", "eval", or a name of the data set's own.
      batch_size: global.
      other_image: bring another example's image as m = 1, for the visual gain.
      catalog: of the config, where there is one already.
      vocab_size: V of the model, where it is not the vocabulary file's.
      image_margin, longest_text: of the model, see `DrawSettings`.

    Raises:
      DataError: whatever is wrong with config or data.
    """
    if name not in config.streams:
        raise DataError(
            "unknown stream",
            where="config.evals",
            expected=f"one of {sorted(config.streams)}",
            found=name,
        )
    return _stream(
        config,
        catalog or DataCatalog(config),
        name,
        assemble,
        split,
        batch_size=batch_size,
        training=False,
        other_image=other_image,
        vocab_size=vocab_size,
        image_margin=image_margin,
        longest_text=longest_text,
    )


def iterate(
    streams: Mapping[str, Stream],
    start_draws: Mapping[str, int] | None = None,
    *,
    shard: tuple[int, int] = (0, 1),
    threads: int = 4,
    prefetch: int = 4,
    steps: int | None = None,
) -> Iterator[dict[str, dict[str, np.ndarray]]]:
    """Batches of all streams, draw by draw; see `read_ahead`.

    Args:
      streams: {name: Stream}.
      start_draws: {name: draw of the first batch}, 0 where absent.
      shard, threads, prefetch: as of `read_ahead`.
      steps: batches to bring, None: endless (evaluation: pass steps_per_epoch).

    Yields:
      {name: stream batch}.
    """
    starts = {name: (start_draws or {}).get(name, 0) for name in streams}
    counter = itertools.count() if steps is None else range(steps)
    plan = ({name: start + step for name, start in starts.items()} for step in counter)
    for _, batch in read_ahead(streams, plan, shard=shard, threads=threads, prefetch=prefetch):
        yield batch


def read_ahead(
    streams: Mapping[str, Stream],
    plan: Iterable[Mapping[str, int]],
    *,
    shard: tuple[int, int] = (0, 1),
    threads: int = 4,
    prefetch: int = 4,
    examples: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> Iterator[tuple[dict[str, int], dict[str, dict[str, np.ndarray]]]]:
    """Reads the batches of a plan ahead, in threads of tf.data, in order.

    In memory are as many as are read at the same time and wait ready, whatever the number of
    streams that take turns.

    Args:
      streams: {name: Stream}.
      plan: {name: draw} of each step, of the streams that take part in it.
      shard: (index, count) of hosts.
      threads: batches read at the same time.
      prefetch: batches that wait ready.
      examples: {name: a batch of the stream}, where there are some already.

    Yields:
      ({name: draw}, {name: stream batch}) of each step; the arrays are read-only, features in the
      store's dtype.

    Raises:
      DataError: as raised by the stream, in the place of its batch.
    """
    plan = iter(plan)
    draws = next(plan, None)
    if draws is None or not draws or threads < 1 or prefetch < 1:
        raise DataError(
            "nothing to iterate over",
            expected="a step, a stream, and threads and prefetch of at least 1",
            found=f"streams {sorted(streams)}, first step {draws}, threads={threads}, "
            f"prefetch={prefetch}",
        )
    tf = _tensorflow()
    first = {name: streams[name].batch(draw, shard) for name, draw in draws.items()}
    # The arrays of every stream in one list; of a stream that takes no part, empty ones.
    known = dict(examples or {}) | first
    samples = {name: known.get(name) or streams[name].example(shard) for name in streams}
    keys = [(name, key) for name, batch in samples.items() for key in batch]
    nothing = {
        (name, key): np.empty((0,) * array.ndim, array.dtype)
        for name, batch in samples.items()
        for key, array in batch.items()
    }
    dtypes = [tf.as_dtype(nothing[key].dtype) for key in keys]
    steps, failures = _Steps(plan), {}

    def read(number: np.ndarray) -> list[np.ndarray]:
        try:
            arrays = dict(nothing)
            for name, draw in steps.draws(int(number)).items():
                batch = streams[name].batch(draw, shard)
                arrays |= {(name, key): array for key, array in batch.items()}
            return [number, *(arrays[key] for key in keys)]
        except Exception as error:  # tf.data would turn it into an error of its own
            failures[int(number)] = error
            raise

    dataset = tf.data.Dataset.range(np.iinfo(np.int64).max)
    dataset = dataset.map(
        lambda number: tf.numpy_function(read, [number], [tf.int64, *dtypes]),
        num_parallel_calls=threads,
        deterministic=True,
    ).prefetch(prefetch)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.autotune.enabled = False
    ready = dataset.with_options(options).as_numpy_iterator()

    yield dict(draws), first
    while True:
        try:
            number, *arrays = next(ready)
        except tf.errors.OpError:
            if not failures:
                raise
            raise failures[min(failures)] from None
        draws = steps.take(int(number))
        if not draws:
            return
        batch: dict[str, dict[str, np.ndarray]] = {name: {} for name in draws}
        for (name, key), array in zip(keys, arrays, strict=True):
            if name in draws:
                batch[name][key] = array
        yield draws, batch


class _Steps:
    """A plan by the number of its steps, for threads that read them in any order."""

    def __init__(self, plan: Iterator[Mapping[str, int]]):
        self._plan, self._lock = plan, threading.Lock()
        self._count, self._draws = 0, {}

    def draws(self, number: int) -> dict[str, int]:
        """{stream: draw} of a step; {} past the end of the plan."""
        with self._lock:
            while self._count <= number:
                self._draws[self._count] = dict(next(self._plan, {}))
                self._count += 1
            return self._draws[number]

    def take(self, number: int) -> dict[str, int]:
        """The same, for the last time."""
        with self._lock:
            return self._draws.pop(number)


def _tensorflow():
    """TensorFlow, which only reading ahead needs."""
    try:
        from input_pipeline.tensorflow_modules import tf
    except ImportError as error:
        raise DataError(
            "reading ahead needs TensorFlow",
            expected="the package tensorflow",
            found=str(error),
            fix="pip install tensorflow-cpu, or call Stream.batch(draw) yourself",
        ) from error
    return tf
