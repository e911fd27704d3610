"""Own data without code: a JSONL file of texts, and a region store.

One JSON object a line, with the image's id in the store and its text, a string or a list of
strings (one example each). `data.json_keys` says what the keys are called; with
`data.json_keys.split` the file holds several splits, and `data.train_split` and
`data.eval_split` are values of that key.

  --config.data.annotations=train.jsonl --config.data.eval_annotations=validation.jsonl \
      --config.data.regions=store
  --config.data.annotations=a.jsonl,b.jsonl --config.data.weights='(3.0, 1.0)'   # a mixture
"""

import json
from collections.abc import Iterator

from input_pipeline.datasets import Prepared, text_corpus, vocabulary
from input_pipeline.regions import split_paths
from input_pipeline.schema import DataError
from input_pipeline.table_writer import EMPTY, Row, Skipped


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

    def rows(split: str) -> Iterator[Row | Skipped]:
        return read(splits[split], keys, split if keys.split else "", config.on_missing)

    def fingerprint(split: str) -> str:
        names = (keys.image_id, keys.text, keys.split, split, config.on_missing)
        return json.dumps([text_corpus.fingerprint(splits[split]), *names])

    return Prepared(
        stores=split_paths(config.regions),
        vocab=vocabulary.named_or_trained(
            config, lambda: rows(config.train_split), lambda: fingerprint(config.train_split)
        ),
        rows=rows,
        fingerprint=fingerprint,
        splits=tuple(splits),
        corpus=split_paths(config.corpus),
        origin=lambda split: ", ".join(splits[split]),
    )


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
    texts_of: dict[str, int] = {}  # image id: texts so far, to number them
    for source, path in enumerate(files):
        for line, raw in text_corpus.lines(path):

            def fail(what, expected, found, fix, place=f"{path}:{line}"):
                return DataError(what, where=place, expected=expected, found=found, fix=fix)

            try:
                item = json.loads(raw)
            except json.JSONDecodeError as error:
                raise fail(
                    "malformed JSON",
                    "one JSON object a line",
                    f"{error.msg} at column {error.colno}: {raw[:60]!r}",
                    "correct the line",
                ) from error
            if not isinstance(item, dict):
                raise fail("a line is no object", "{...}", raw[:60], "correct the line")
            for name in ("image_id", "split"):
                key = keys[name]
                if key and key not in item:
                    raise fail(
                        f"the key {key!r} is missing",
                        f"keys such as {key!r} (data.json_keys.{name})",
                        sorted(item),
                        f"correct the line, or set --config.data.json_keys.{name}",
                    )
            if keys.split and item[keys.split] != split:
                continue
            image_id = item[keys.image_id]
            if isinstance(image_id, bool) or not isinstance(image_id, (str, int)) or image_id == "":
                raise fail(
                    "an image id is neither text nor a whole number",
                    "a string or an integer",
                    repr(image_id),
                    "correct the line",
                )
            image_id = str(image_id)
            texts = item.get(keys.text, [])
            texts = [texts] if isinstance(texts, str) else texts
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise fail(
                    f"the value of {keys.text!r} is no text",
                    "a string or a list of strings",
                    repr(item[keys.text])[:60],
                    "correct the line, or set --config.data.json_keys.text",
                )
            if not texts and on_missing != "skip":
                raise fail(
                    "a row has no text",
                    f"a string or a non-empty list at {keys.text!r}",
                    f"keys {sorted(item)}",
                    "add it, set --config.data.json_keys.text, or --config.data.on_missing=skip",
                )
            if not texts:
                yield Skipped(f"{image_id} ({path}:{line})", EMPTY)
            for text in texts:
                number = texts_of[image_id] = texts_of.get(image_id, -1) + 1
                text_id = f"{image_id}#{number}"
                if text.strip():
                    yield Row(image_id, text, text_id, source=source)
                elif on_missing == "skip":
                    yield Skipped(f"{text_id} ({path}:{line})", EMPTY)
                else:
                    raise fail(
                        "a text is empty",
                        "at least one word",
                        repr(text),
                        "correct it, or set --config.data.on_missing=skip",
                    )
