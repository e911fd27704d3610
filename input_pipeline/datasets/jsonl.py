"""Own data without code: a JSONL file of texts, and a region store.

One JSON object a line, with the image's id in the store and its text. What else a line has depends
on `data.records` (`jsonl_tasks`); for captions the text is a string or a list of strings, one
example each. `data.json_keys` says what the keys are called; with `data.json_keys.split` the file
holds several splits, and `data.train_split` and `data.eval_split` are values of that key.

  --config.data.annotations=train.jsonl --config.data.eval_annotations=validation.jsonl \
      --config.data.regions=store
  --config.data.annotations=a.jsonl,b.jsonl --config.data.weights='(3.0, 1.0)'   # a mixture
"""

import json
from collections.abc import Iterator
from typing import Any

import xxhash

from core import remote
from core.console import say
from core.errors import DataError
from input_pipeline.datasets.reading import (
    answer_list,
    jsonl_lines,
    jsonl_tasks,
    text_corpus,
    vocabulary,
)
from input_pipeline.datasets.reading.answers import AnswerVocabulary
from input_pipeline.datasets.reading.prepared import Prepared
from input_pipeline.datasets.records import RowOptions
from input_pipeline.regions.store import split_paths
from input_pipeline.texts.rows import Row, Skipped


def prepare(data_config) -> Prepared:
    """See `datasets.prepare`. Trains a vocabulary where none is named.

    Raises:
      DataError: no annotations, or what is wrong with them.
    """
    config, keys = data_config, data_config.json_keys
    files = split_paths(config.annotations)
    held_out = split_paths(config.eval_annotations)
    if not files:
        raise DataError(
            "no annotations are named",
            where="--config.data.annotations",
            expected="one or more JSONL files",
            found="none",
            fix="--config.data.annotations=captions.jsonl",
        )
    splits = {config.train_split: files}
    if held_out or keys.split:
        splits[config.eval_split] = held_out or files
    if held_out and config.eval_split == config.train_split:
        raise DataError(
            "training and evaluation have the same split name",
            where="--config.data.eval_split",
            expected="two names, since data.eval_annotations is set",
            found=repr(config.eval_split),
        )

    files_of, kind, train = splits.__getitem__, config.records, config.train_split

    def made_of(split: str) -> str:
        names = (keys.image_id, keys.text, keys.split, split, config.on_missing)
        parts: list[Any] = [text_corpus.fingerprint(files_of(split)), *names]
        if kind not in jsonl_tasks.CAPTIONS:
            parts += [kind, split == train, keys.to_dict()]
        return json.dumps(parts)

    classes: tuple[str, ...] = ()
    if kind == "classify":
        classes = _classes(
            config,
            lambda: jsonl_lines.class_names(files_of(train), keys, train),
            lambda: made_of(train),
        )

    def parts(split: str) -> Iterator[tuple[int, Any]]:
        reader = jsonl_tasks.Reader(
            kind, keys, config.on_missing, trained=split == train, classes=classes
        )
        return reader.records(files_of(split), split)

    def records(split: str) -> Iterator[Any]:
        return (record for _, record in parts(split) if not isinstance(record, Skipped))

    answers = None
    if kind == "questions":
        answers = answer_list.named_or_built(config, lambda: records(train), lambda: made_of(train))

    def rows(split: str) -> Iterator[Row | Skipped]:
        for source, record in parts(split):
            if isinstance(record, Skipped):
                yield record
            else:
                yield from record.rows(
                    RowOptions(
                        source=source,
                        answers=answers,
                        kind="answers",
                        all_regions=not getattr(record, "candidates", ()),
                    )
                )

    def fingerprint(split: str) -> str:
        named = json.dumps(classes) if classes else answers.fingerprint if answers else ""
        return made_of(split) + named

    return Prepared(
        stores=split_paths(config.regions),
        vocab=vocabulary.named_or_trained(config, lambda: rows(train), lambda: made_of(train)),
        rows=rows,
        fingerprint=fingerprint,
        splits=tuple(splits),
        corpus=split_paths(config.corpus),
        origin=lambda split: ", ".join(files_of(split)),
        answers=answers,
        records=records,
        labels=classes,
    )


def _classes(config, made, fingerprint) -> tuple[str, ...]:
    """The class list `data.answers`, or one of all labels in training, kept in a file.

    Raises:
      DataError: an unreadable list, or whatever is wrong with the labels.
    """
    if config.answers:
        return _several(AnswerVocabulary.load(config.answers).labels, config.answers)
    name = f"classes-{xxhash.xxh3_64_hexdigest(fingerprint().encode())}.json"
    path = remote.path(config.dir) / name
    if not path.is_file():
        found = AnswerVocabulary(made(), str(path))
        found.save(path)
        say(f"data: {len(found):,} classes in training: {path}")
    return _several(AnswerVocabulary.load(path).labels, str(path))


def _several(classes: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The classes, of which there must be two: a model of one is always right."""
    if len(classes) < 2:
        raise DataError(
            "there is nothing to tell apart",
            where=where,
            expected="two classes or more",
            found=list(classes),
            fix="label the training lines with all classes, or name the list: "
            "--config.data.answers=classes.json",
        )
    return classes


def read(files: list[str], keys, split: str, on_missing: str) -> Iterator[Row | Skipped]:
    """The texts of JSONL files.

    Args:
      files: paths; the number of the file is the row's source.
      keys: names of `image_id`, `text` and `split` in the objects.
      split: value of keys.split to keep; empty: everything.
      on_missing: "skip" yields a Skipped for a row without text instead of failing.

    Raises:
      DataError: naming file and line: malformed JSON, a missing key, a value of the wrong type,
        an empty text.
    """
    reader = jsonl_tasks.Reader("captions", keys, on_missing, trained=True)
    for source, record in reader.records(files, split):
        yield record if isinstance(record, Skipped) else next(record.rows(RowOptions(source)))
