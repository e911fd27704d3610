"""From a config to host batches: plans the streams and reads ahead with tf.data.

Device placement is not done here, and nothing here needs jax. TensorFlow is imported by `iterate`
alone.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from core.errors import DataError
from input_pipeline.streams.data import Data
from input_pipeline.streams.plan import DrawSettings
from input_pipeline.streams.stream import Stream

__all__ = ["Data", "Stream", "build_evaluation", "build_streams", "iterate"]


def _stream(
    config,
    data: Data,
    name: str,
    assemble: Mapping,
    split: str,
    *,
    batch_size: int,
    training: bool,
    vocab_size: int | None,
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
    images = config.streams[name].images
    source = data.captions(split) if images else data.corpus()
    source.table.check_vocabulary(vocab_size or data.special.vocab_size)
    weights = tuple(config.data.weights if images else config.data.corpus_weights)
    settings = DrawSettings(config.seed, batch_size, training, weights, overfit)
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
    data: Data | None = None,
    vocab_size: int | None = None,
) -> dict[str, Stream]:
    """The training streams of a config; a stream with batch_size 0 is left out.

    Args:
      config: of the run; read are streams, data, seed and overfit.
      assemble: {stream: assemble function} (see Stream).
      data: Data(config.data), where it is open already.
      vocab_size: V of the model, where it is not the vocabulary file's.

    Raises:
      DataError: whatever is wrong with config or data.
    """
    data = data or Data(config.data)
    streams = {
        name: _stream(
            config,
            data,
            name,
            assemble,
            "train",
            batch_size=options.batch_size,
            training=True,
            overfit=config.overfit,
            vocab_size=vocab_size,
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
    return streams


def build_evaluation(
    config,
    name: str,
    assemble: Mapping[str, Callable],
    *,
    split: str = "eval",
    batch_size: int,
    other_image: bool = False,
    data: Data | None = None,
    vocab_size: int | None = None,
) -> Stream:
    """A stream that brings every example of a split once, in order.

    Args:
      config: of the run.
      name: of the stream whose options hold. Plain text has one corpus for all splits.
      assemble: {stream: assemble function}.
      split: "train", "eval", or a name of the data set's own.
      batch_size: global.
      other_image: bring another example's image as m = 1, for the visual gain.
      data: Data(config.data), where it is open already.
      vocab_size: V of the model, where it is not the vocabulary file's.

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
        data or Data(config.data),
        name,
        assemble,
        split,
        batch_size=batch_size,
        training=False,
        other_image=other_image,
        vocab_size=vocab_size,
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
    """Reads batches ahead in threads of tf.data, in order.

    Args:
      streams: {name: Stream}.
      start_draws: {name: draw of the first batch}, 0 where absent.
      shard: (index, count) of hosts.
      threads: batches read at the same time.
      prefetch: batches that wait ready.
      steps: batches to bring, None: endless (evaluation: pass steps_per_epoch).

    Yields:
      {name: stream batch}; the arrays are read-only, features in the store's dtype.

    Raises:
      DataError: as raised by the stream, in the place of its batch.
    """
    if not streams or threads < 1 or prefetch < 1 or steps == 0:
        raise DataError(
            "nothing to iterate over",
            expected="a stream, and threads, prefetch and steps of at least 1",
            found=f"streams {sorted(streams)}, threads={threads}, prefetch={prefetch}, "
            f"steps={steps}",
        )
    tf = _tensorflow()
    starts = {name: (start_draws or {}).get(name, 0) for name in streams}
    failures: dict[int, Exception] = {}

    def read(step: int) -> dict[tuple[str, str], np.ndarray]:
        return {
            (name, key): array
            for name, stream in streams.items()
            for key, array in stream.batch(starts[name] + step, shard).items()
        }

    first = read(0)  # tells names and types of what follows
    names = list(first)

    def read_list(step) -> list[np.ndarray]:
        try:
            arrays = read(int(step))
            return [arrays[name] for name in names]
        except Exception as error:  # tf.data would turn it into an error of its own
            failures[int(step)] = error
            raise

    dtypes = [tf.as_dtype(array.dtype) for array in first.values()]
    dataset = tf.data.Dataset.range(1, steps or np.iinfo(np.int64).max)
    dataset = dataset.map(
        lambda step: tf.numpy_function(read_list, [step], dtypes),
        num_parallel_calls=threads,
        deterministic=True,
    ).prefetch(prefetch)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.autotune.enabled = False
    batches = dataset.with_options(options).as_numpy_iterator()

    def nest(arrays) -> dict[str, dict[str, np.ndarray]]:
        out: dict[str, dict[str, np.ndarray]] = {name: {} for name in streams}
        for (name, key), array in zip(names, arrays, strict=True):
            out[name][key] = array
        return out

    yield nest(first.values())
    while True:
        try:
            arrays = next(batches)
        except StopIteration:
            return
        except tf.errors.OpError:
            if not failures:
                raise
            raise failures[min(failures)] from None
        yield nest(arrays)


def _tensorflow():
    """TensorFlow, kept off the accelerators: it would take their memory from the model."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise DataError(
            "reading ahead needs TensorFlow",
            expected="the package tensorflow",
            found=str(error),
            fix="pip install tensorflow-cpu, or call Stream.batch(draw) yourself",
        ) from error
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf
