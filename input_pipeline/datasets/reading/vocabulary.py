"""The vocabulary a config names, or one trained on the training texts."""

import json
from collections.abc import Callable, Iterable

import xxhash

from core import remote
from core.console import say
from input_pipeline.datasets.reading import text_corpus
from input_pipeline.regions.store import split_paths
from input_pipeline.texts.rows import Row, Skipped
from input_pipeline.texts.tokenizer import train_wordpiece


def named_or_trained(
    data_config, rows: Callable[[], Iterable[Row | Skipped]], fingerprint: Callable[[], str]
) -> str:
    """Path or hub name of the vocabulary.

    Args:
      data_config: the `data` block; `vocab`, `vocab_size`, `corpus` and `dir` are read.
      rows: texts to train on, beside the lines of the corpus, where no vocabulary is named.
      fingerprint: of `rows()`; a vocabulary that was trained on the same texts is taken.

    Raises:
      DataError: what is wrong with the texts.
    """
    if data_config.vocab:
        return data_config.vocab
    corpus = split_paths(data_config.corpus)
    source = json.dumps([fingerprint(), text_corpus.fingerprint(corpus), data_config.vocab_size])
    name = f"vocab-{xxhash.xxh3_64_hexdigest(source.encode())}.txt"
    path = remote.path(data_config.dir) / name
    if not path.is_file():

        def texts():
            for row in rows():
                if isinstance(row, Row):
                    yield row.text
            for file in corpus:
                for _, text in text_corpus.lines(file):
                    yield text

        train_wordpiece(texts(), data_config.vocab_size, path)
        say(f"data: trained a vocabulary on the training texts: {path}")
    return str(path)
