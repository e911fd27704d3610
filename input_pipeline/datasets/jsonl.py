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
from collections.abc import Iterator, Mapping
from typing import Any

import xxhash

from core import remote
from core.console import say
from core.errors import DataError
from input_pipeline.datasets.reading import (
    answer_files,
    answer_list,
    jsonl_lines,
    jsonl_tasks,
    stretches,
    text_corpus,
    vocabulary,
)
from input_pipeline.datasets.reading.answers import AnswerVocabulary
from input_pipeline.datasets.reading.prepared import Prepared
from input_pipeline.datasets.reading.stretches import Stretch
from input_pipeline.datasets.records import Record, RowOptions
from input_pipeline.regions.store import split_paths
from input_pipeline.texts.rows import Row, Skipped


def prepare(data_config) -> Prepared:
    """See `datasets.prepare`. Trains a vocabulary where none is named.

    Raises:
      DataError: no annotations, or what is wrong with them.
    """
    return _Texts(data_config, _splits(data_config)).prepared()


def _splits(config) -> dict[str, list[str]]:
    """{split: its files}.

    Raises:
      DataError: no files are named, or two splits have one name.
    """
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
    if held_out or config.json_keys.split:
        splits[config.eval_split] = held_out or files
    if held_out and config.eval_split == config.train_split:
        raise DataError(
            "training and evaluation have the same split name",
            where="--config.data.eval_split",
            expected="two names, since data.eval_annotations is set",
            found=repr(config.eval_split),
        )
    return splits


class _Texts:
    """The lines of JSONL files as records, and as rows of a text table."""

    def __init__(self, config, splits: Mapping[str, list[str]]):
        self._config, self._splits, self._kind = config, splits, config.records
        self._train, self._classes = config.train_split, ()
        self._answers, self._targets = None, None
        if self._kind == "classify":
            files = splits[self._train]
            self._classes = _classes(
                config,
                lambda: jsonl_lines.class_names(files, config.json_keys, self._train),
                self._train_fingerprint,
            )
        elif self._kind == "questions":
            self._answers = answer_list.named_or_built(
                config, lambda: self._records(self._train), self._train_fingerprint
            )
            self._targets = answer_list.Targets(self._answers, self._records, self._train)

    def prepared(self) -> Prepared:
        """What is handed over to the streams."""
        config = self._config
        return Prepared(
            stores=split_paths(config.regions),
            vocab=vocabulary.named_or_trained(
                config, lambda: self._rows(self._train), self._train_fingerprint
            ),
            rows=self._rows,
            fingerprint=self._fingerprint,
            splits=tuple(self._splits),
            corpus=split_paths(config.corpus),
            origin=lambda split: ", ".join(self._splits[split]),
            answers=self._answers,
            records=self._records,
            stretches=self._stretches if self._kind in jsonl_tasks.CAPTIONS else None,
            rows_in=self._rows_in,
            tally=self._tally,
            labels=self._classes,
            review=self._targets.review if self._targets else None,
        )

    def _reader(self, split: str) -> jsonl_tasks.Reader:
        return jsonl_tasks.Reader(
            self._kind,
            self._config.json_keys,
            self._config.on_missing,
            trained=split == self._train,
            classes=self._classes,
        )

    def _lines(self, split: str) -> Iterator[tuple[int, Record | Skipped]]:
        """(number of the file, record) of each line."""
        return self._reader(split).records(self._splits[split], split)

    def _stretches(self, split: str, size: int) -> list[Stretch]:
        return [
            stretch
            for file, path in enumerate(self._splits[split])
            for stretch in stretches.of_file(path, size, file)
        ]

    def _rows_in(self, split: str, stretch: Stretch) -> Iterator[Row | Skipped]:
        return self._as_rows(self._reader(split).records(self._splits[split], split, stretch))

    def _tally(self, split: str, stretch: Stretch) -> Mapping[str, int]:
        reader = self._reader(split)
        for _ in reader.records(self._splits[split], split, stretch):
            pass
        return reader.texts_of

    def _records(self, split: str) -> Iterator[Record]:
        return (record for _, record in self._lines(split) if not isinstance(record, Skipped))

    def _rows(self, split: str) -> Iterator[Row | Skipped]:
        return self._as_rows(self._lines(split))

    def _as_rows(self, lines: Iterator[tuple[int, Record | Skipped]]) -> Iterator[Row | Skipped]:
        for source, record in lines:
            if isinstance(record, Skipped):
                yield record
            else:
                all_regions = not getattr(record, "candidates", ())
                yield from record.rows(
                    RowOptions(source, self._answers, "answers", all_regions=all_regions)
                )

    def _fingerprint(self, split: str) -> str:
        """Of the records, and of the lists that their targets are numbers of."""
        lists = json.dumps(self._classes) if self._classes else ""
        return self._of_records(split) + (self._targets.fingerprint if self._targets else lists)

    def _train_fingerprint(self) -> str:
        return self._of_records(self._train)

    def _of_records(self, split: str) -> str:
        """Text that changes whenever the records of a split would."""
        keys = self._config.json_keys
        names = (keys.image_id, keys.text, keys.split, split, self._config.on_missing)
        parts: list[Any] = [text_corpus.fingerprint(self._splits[split]), *names]
        if self._kind not in jsonl_tasks.CAPTIONS:
            parts += [self._kind, split == self._train, keys.to_dict()]
        return json.dumps(parts)


def _classes(config, made, fingerprint) -> tuple[str, ...]:
    """The class list `data.answers`, or one of all labels in training, kept in a file.

    Raises:
      DataError: an unreadable list, or whatever is wrong with the labels.
    """
    if config.answers:
        named = answer_files.read_list(config.answers)  # as written: labels are compared so
        answer_files.require_sound(named, config.answers)
        return _several(tuple(named), config.answers)
    name = f"classes-{xxhash.xxh3_64_hexdigest(fingerprint().encode())}.json"
    path = remote.path(config.dir) / name
    if not path.is_file():
        found = AnswerVocabulary(made(), str(path))
        found.save(path)
        say(f"data: {len(found):,} classes in training: {path}")
    return _several(tuple(answer_files.read_list(path)), str(path))


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
