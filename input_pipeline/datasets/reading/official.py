"""What the data sets of official files share: splits, folders, rows of the text table.

A data set's module has SPLITS, `files` and `records` (see `datasets.records`), BUILDER, and where
it needs them OPTIONS, names of the options (`datasets.options`) that both functions take, and
`image_name(image_id)`, the image's name over data sets ("coco:139"), for the leak check.

`data.manual_dir` holds the files of one data set, or a folder of each data set's name with them.
`data.tfds_dir` takes what `tfds build` made instead (`datasets.builder`). From gs:// the files that
may be annotations are copied to this machine, and the built table. Splits are joined with
"+": `train2014+val2014`; each is a corpus of its own to `data.weights`.
"""

import json
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import Any

from core import remote
from core.errors import DataError
from input_pipeline.datasets.reading import answer_list, builder, text_corpus, vocabulary
from input_pipeline.datasets.reading.prepared import Prepared
from input_pipeline.datasets.records import MultipleChoice, Question, RowOptions
from input_pipeline.regions.store import split_paths
from input_pipeline.texts.rows import Row, Skipped

# What official files are called; pictures and features beside them stay on gs://.
_ANNOTATIONS = (".json", ".jsonl", ".txt", ".tsv", ".csv", ".token", ".p", ".pkl", ".gz")


class Splits(tuple):
    """Names of splits; names joined with "+" are in it, too."""

    def __contains__(self, name: object) -> bool:
        return all(tuple.__contains__(self, part) for part in str(name).split("+"))


class Reader:
    """The records of an official data set, wherever the config says they are.

    Attributes:
      module: the data set's.
      splits: Splits.
    """

    def __init__(self, module: types.ModuleType, data_config):
        """Opens nothing; `data_config` is the `data` block.

        Raises:
          DataError: neither data.manual_dir nor data.tfds_dir is set.
        """
        self.module, self._config = module, data_config
        self.splits = Splits(module.SPLITS)
        self._copies: dict[remote.Path, str] = {}
        fields = getattr(module, "OPTIONS", ())
        self._options = {name: getattr(data_config, name) for name in fields}
        if not data_config.manual_dir and not data_config.tfds_dir:
            raise DataError(
                "the official files are not named",
                where="--config.data.manual_dir",
                expected="the folder they are in",
                found="nothing",
                fix=f"python -c 'import {module.__name__} as m; print(m.__doc__)' says which",
            )

    def parts(self, split: str) -> list[str]:
        """The splits joined in a name.

        Raises:
          DataError: an unknown one, or one twice.
        """
        parts = split.split("+")
        if split not in self.splits or len(set(parts)) < len(parts):
            raise DataError(
                "unknown split" if split not in self.splits else "a split is joined with itself",
                where=f"data set {self.module.BUILDER.name!r}",
                expected=f'{list(self.splits)}, or several of them joined with "+"',
                found=repr(split),
                fix="set --config.data.train_split and --config.data.eval_split",
            )
        return parts

    def _folder(self, split: str) -> str:
        """Folder of the official files of a split."""
        manual = remote.path(self._config.manual_dir)
        own = manual / self.module.BUILDER.name
        if own.is_dir():
            try:
                own = self._here(own)
                self.module.files(own, split, **self._options)
                return own
            except DataError:  # a folder of that name may be part of the official layout
                pass
        return self._here(manual)

    def _here(self, folder: remote.Path, keep=lambda name: name.lower().endswith(_ANNOTATIONS)):
        """The folder, or this machine's copy of its annotations; brought up to date once a run."""
        if folder not in self._copies:
            remote.require(folder, "official files")
            self._copies[folder] = str(remote.mirror(folder, keep))
        return self._copies[folder]

    def _built(self) -> str:
        place = remote.path(self._config.tfds_dir) / self.module.BUILDER.name
        folder = pathlib.Path(self._here(place, lambda name: True)).parent
        return builder.find_built(self.module.BUILDER, str(folder), self._options)

    def files(self, split: str) -> list[str]:
        """The files that a split, or several joined, is read from.

        Raises:
          DataError: one is missing.
        """
        paths: list[str] = []
        for part in self.parts(split):
            if self._config.tfds_dir:
                paths += builder.built_files(self._built(), part)
            else:
                paths += map(str, self.module.files(self._folder(part), part, **self._options))
        return paths

    def records(self, split: str) -> Iterator[tuple[int, Any]]:
        """(number of the part, record or Skipped) of a split, or of several joined, in order.

        Raises:
          DataError: what is wrong with the files.
        """
        for source, part in enumerate(self.parts(split)):
            if self._config.tfds_dir:
                made = builder.read_built(self.module.BUILDER.record, self._built(), part)
            else:
                made = self.module.records(self._folder(part), part, **self._options)
            for record in made:
                yield source, record

    def fingerprint(self, split: str) -> str:
        """Text that changes whenever the records of a split would."""
        declaration, paths = self.module.BUILDER, self.files(split)
        names = [pathlib.Path(path).name for path in paths]  # of images, in Flickr30k Entities
        made_of = [declaration.name, declaration.version, split, self._options]
        return json.dumps([text_corpus.fingerprint(paths), names, *made_of])

    def image_name(self, image_id: str) -> str:
        """Name of an image over data sets."""
        return getattr(self.module, "image_name", str)(image_id)


def prepare(module: types.ModuleType | str, data_config) -> Prepared:
    """See `datasets.prepare`.

    Args:
      module: the data set's, or its name.
      data_config: the `data` block.

    Raises:
      DataError: no folder of official files, or what is wrong with them.
    """
    reader = Reader(sys.modules[module] if isinstance(module, str) else module, data_config)

    train_split = data_config.train_split
    # Declared by the data sets that offer several kinds of records, or candidates.
    kind = data_config.get("records", "")
    all_regions = data_config.get("candidates", "") == "regions"

    def records(split: str) -> Iterator[Any]:
        for _, record in reader.records(split):
            if not isinstance(record, Skipped):
                yield record

    def train_fingerprint() -> str:
        return reader.fingerprint(train_split)

    answers = None
    if reader.module.BUILDER.record is Question:
        answers = answer_list.named_or_built(
            data_config, lambda: records(train_split), train_fingerprint
        )

    def made(split: str) -> Iterator[Row | Skipped]:
        for source, record in reader.records(split):
            if isinstance(record, Skipped):
                yield record
            else:
                yield from record.rows(
                    RowOptions(
                        source=source,
                        answers=answers,
                        kind=kind,
                        classes=getattr(reader.module, "CLASSES", ()),
                        all_regions=all_regions,
                    )
                )

    def fingerprint(split: str) -> str:
        made_of = [reader.fingerprint(split), answers.fingerprint if answers else ""]
        # Settings that make other rows of the same records.
        if reader.module.BUILDER.record is MultipleChoice:
            made_of.append(kind)
        return "".join(made_of)

    return Prepared(
        stores=split_paths(data_config.regions),
        vocab=vocabulary.named_or_trained(
            data_config, lambda: made(train_split), train_fingerprint
        ),
        rows=made,
        fingerprint=fingerprint,
        splits=reader.splits,
        corpus=split_paths(data_config.corpus),
        origin=lambda split: _few(reader.files(split)),
        image_name=reader.image_name,
        answers=answers,
        records=records,
        labels=getattr(reader.module, "LABELS", ()),
    )


def _few(paths: list[str]) -> str:
    """Paths for a message; Flickr30k Entities has a file an image."""
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
