"""What the data sets of official files share: splits, folders, rows of the text table.

A data set's module has SPLITS, `files` and `records` (see `datasets.records`), BUILDER, and where
it needs them OPTIONS, names of the options (`datasets.options`) that both functions take, and
`image_name(image_id)`, the image's name over data sets ("coco:139"), for the leak check,
`check_store` (`Prepared`) where its ids could mean other images in a store, and
`count(folder, split)`, the number of its records, where these are millions of lines of a file, and
`urls(folder, split)` (`Prepared`) where two images may have one id. `cut(folder, split, size)` and
`records_in(folder, split, stretch)` where other machines can read stretches of a file.

`data.manual_dir` holds the files of one data set, or a folder of each data set's name with them.
`data.tfds_dir` takes what `tfds build` made instead (`datasets.builder`). From gs:// the files that
may be annotations are copied to this machine, and the built table. Splits are joined with
"+": `train2014+val2014`; each is a corpus of its own to `data.weights`.
"""

import functools
import itertools
import json
import pathlib
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from core import remote
from core.errors import DataError
from input_pipeline.datasets.reading import answer_list, builder, text_corpus, vocabulary
from input_pipeline.datasets.reading.prepared import Prepared
from input_pipeline.datasets.reading.stretches import Stretch
from input_pipeline.datasets.records import Question, Record, RowOptions, mentions
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

    @property
    def stretches(self) -> Callable[[str, int], list[Stretch]] | None:
        """`Prepared.stretches`, of a module that can cut its files."""
        if self._config.tfds_dir or not hasattr(self.module, "cut"):
            return None
        return lambda split, size: [
            stretch._replace(file=source)
            for source, part in enumerate(self.parts(split))
            for stretch in self.module.cut(self._folder(part), part, size, **self._options)
        ]

    def records_in(self, split: str, stretch: Stretch) -> Iterator[Any]:
        """The records of one of `stretches(split)`."""
        part = self.parts(split)[stretch.file]
        return self.module.records_in(self._folder(part), part, stretch, **self._options)

    def count(self, split: str) -> int | None:
        """How many records a split has, where its module can tell without reading them."""
        count = getattr(self.module, "count", None)
        if count is None or self._config.tfds_dir:
            return None
        return sum(count(self._folder(part), part, **self._options) for part in self.parts(split))

    @property
    def urls(self) -> Callable[[str], Iterator[tuple[str, str]]] | None:
        """`Prepared.urls`, of a module that has them, read from official files."""
        if self._config.tfds_dir or not hasattr(self.module, "urls"):
            return None
        return lambda split: itertools.chain.from_iterable(
            self.module.urls(self._folder(part), part, **self._options)
            for part in self.parts(split)
        )

    def fingerprint(self, split: str) -> str:
        """Text that changes whenever the records of a split would."""
        declaration, paths = self.module.BUILDER, self.files(split)
        names = [pathlib.Path(path).name for path in paths]  # of images, in Flickr30k Entities
        made_of = [declaration.name, declaration.version, split, self._options]
        return json.dumps([text_corpus.fingerprint(paths), names, *made_of])

    @property
    def store_check(self) -> Callable[[str, Sequence[str], Sequence[str]], None] | None:
        """`Prepared.check_store`, of a module that has one."""
        check = getattr(self.module, "check_store", None)
        return functools.partial(check, **self._options) if check else None

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
    found = sys.modules[module] if isinstance(module, str) else module
    return _Texts(Reader(found, data_config), data_config).prepared()


class _Texts:
    """The records of an official data set as rows of a text table."""

    def __init__(self, reader: Reader, data_config):
        self._reader, self._config, self._train = reader, data_config, data_config.train_split
        # Declared by the data sets that offer several kinds of records, or candidates.
        self._kind = data_config.get("records", "")
        self._all_regions = data_config.get("candidates", "") == "regions"
        self._form = data_config.get("answer_form", "normalized")
        self._joined_by = mentions.joined_by(data_config)
        self._outlines = bool(data_config.get("outlines", False))
        self._answers, self._targets = None, None
        if issubclass(reader.module.BUILDER.record, Question):
            self._answers = answer_list.named_or_built(
                data_config,
                lambda: self._records(self._train),
                self._train_fingerprint,
                as_written=getattr(reader.module, "ANSWERS_AS_WRITTEN", False),
            )
            self._targets = answer_list.Targets(
                self._answers, self._records, self._train, self._form
            )

    def prepared(self) -> Prepared:
        """What is handed over to the streams."""
        config, reader = self._config, self._reader
        return Prepared(
            stores=split_paths(config.regions),
            vocab=vocabulary.named_or_trained(
                config, lambda: self._rows(self._train), self._train_fingerprint
            ),
            rows=self._rows,
            fingerprint=self._fingerprint,
            splits=reader.splits,
            corpus=split_paths(config.corpus),
            count=reader.count,
            urls=reader.urls,
            origin=lambda split: _few(reader.files(split)),
            image_name=reader.image_name,
            answers=self._answers,
            records=self._records,
            labels=getattr(reader.module, "LABELS", ()),
            review=self._targets.review if self._targets else None,
            check_store=reader.store_check,
            stretches=reader.stretches,
            rows_in=self._rows_in,
        )

    def _records(self, split: str) -> Iterator[Record]:
        for _, record in self._reader.records(split):
            if not isinstance(record, Skipped):
                yield record

    def _rows(self, split: str) -> Iterator[Row | Skipped]:
        options = [self._options(source) for source in range(len(self._reader.parts(split)))]
        for source, record in self._reader.records(split):
            if isinstance(record, Skipped):
                yield record
            else:
                yield from record.rows(options[source])

    def _rows_in(self, split: str, stretch: Stretch) -> Iterator[Row | Skipped]:
        options = self._options(stretch.file)
        for record in self._reader.records_in(split, stretch):
            yield from record.rows(options)

    def _options(self, source: int) -> RowOptions:
        """How the records of a part become rows."""
        return RowOptions(
            source,
            self._answers,
            self._kind,
            getattr(self._reader.module, "CLASSES", ()),
            self._all_regions,
            self._form,
            self._joined_by,
            self._outlines,
        )

    def _train_fingerprint(self) -> str:
        return self._reader.fingerprint(self._train)

    def _fingerprint(self, split: str) -> str:
        """Of the records, and of what makes other rows of the same ones."""
        answers = self._targets.fingerprint if self._targets else ""
        version = self._reader.module.BUILDER.record.version_of_rows(self._kind)
        rows = f" rows {version}" * (version > 1)
        rows += f" joined by {self._joined_by!r}" * (self._joined_by != "and")
        rows += " with outlines" * self._outlines
        return self._reader.fingerprint(split) + answers + self._kind + rows


def _few(paths: list[str]) -> str:
    """Paths for a message; Flickr30k Entities has one file per image."""
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
