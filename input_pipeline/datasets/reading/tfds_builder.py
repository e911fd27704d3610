"""The TFDS builder class behind `builder.declare`. Importing it imports TensorFlow Datasets."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import numpy as np

from core.console import say
from core.errors import DataError
from input_pipeline.datasets.reading.declaration import Declaration
from input_pipeline.datasets.reading.files import NoSuchSplit
from input_pipeline.tensorflow_modules import tfds
from input_pipeline.texts.rows import Skipped


def feature(kind: Any):
    """TFDS feature of a type hint of a record.

    Raises:
      TypeError: a hint that records do not use.
    """
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return tfds.features.FeaturesDict({name: feature(hint) for name, hint in hints.items()})
    if kind is str:
        return tfds.features.Text()
    if kind is int:
        return tfds.features.Scalar(np.int64)
    if kind is float:
        return _floats(())
    items = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and items[-1] is Ellipsis:
        return tfds.features.Sequence(feature(items[0]))
    if typing.get_origin(kind) is tuple and set(items) == {float}:
        return _floats((len(items),))
    raise TypeError(f"no TFDS feature for {kind}")


def _floats(shape: tuple[int, ...]):
    return tfds.features.Tensor(shape=shape, dtype=np.float64, encoding="bytes")


def encode(value: Any) -> Any:
    """A record's value as TFDS takes it."""
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [encode(item) for item in value] if isinstance(value, tuple) else value


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """A TFDS config: options of the module's `files` and `records`."""

    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    beam: bool = False


class Records(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Stores the records of a data set, one example each, in their order."""

    declaration: Declaration  # of the subclass

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.declaration.module.__doc__,
            features=feature(self.declaration.record),
            disable_shuffling=True,
        )

    @property
    def _options(self) -> dict[str, Any]:
        return self.builder_config.options if self.builder_config else {}

    def _split_generators(self, dl_manager):
        """The splits whose official files are there; the manual folder's win over downloads."""
        module, folders = self.declaration.module, []
        try:
            folders = [str(dl_manager.manual_dir)]
        except AssertionError:  # empty, or not there
            if not self.declaration.sources:
                raise
        splits = self._found(folders)
        if not splits and self.declaration.sources:
            archives = dl_manager.download_and_extract(list(self.declaration.sources))
            splits = self._found(list(map(str, archives)))
        if not splits:
            module.files(folders[0], module.SPLITS[0], **self._options)  # says what it misses
        if absent := sorted(set(module.SPLITS) - set(splits)):
            say(f"{self.name}: no official files of the splits {absent}, so they are not built")
        # TFDS fails on a split without examples, and files of a subset may have some.
        empty = [split for split, folder in splits.items() if not self._has_records(folder, split)]
        if len(empty) == len(splits):
            raise DataError(
                "the official files have no records",
                where=", ".join(dict.fromkeys(splits.values())),
                expected=f"records of one of the splits {list(splits)}",
                found="none of any",
                fix="get the files again",
            )
        if empty:
            say(f"{self.name}: no records of the splits {empty}, so they are not built")
        return {
            split: self._examples(folder, split)
            for split, folder in splits.items()
            if split not in empty
        }

    def _has_records(self, folder: str, split: str) -> bool:
        records = self.declaration.module.records
        try:
            return next(iter(records(folder, split, **self._options)), None) is not None
        except NoSuchSplit:
            return False

    def _found(self, folders: list[str]) -> dict[str, str]:
        """{split: the first folder that has its files}."""
        module, found = self.declaration.module, {}
        for split in module.SPLITS:
            for folder in folders:
                try:
                    module.files(folder, split, **self._options)
                except DataError:
                    continue
                found.setdefault(split, folder)
        return found

    def _examples(self, folder: str, split: str):
        module = self.declaration.module
        if self.builder_config and self.builder_config.beam:
            import apache_beam as beam

            made = module.beam_records(folder, split, **self._options)
            return made | beam.MapTuple(lambda i, record: (i, encode(record)))
        return self._generate_examples(folder, split)

    def _generate_examples(self, folder: str, split: str) -> Iterator[tuple[int, dict]]:
        made = self.declaration.module.records(folder, split, **self._options)
        kept = (record for record in made if not isinstance(record, Skipped))
        for i, record in enumerate(kept):
            yield i, encode(record)


def builder_class(declaration: Declaration, module_name: str) -> type:
    """The TFDS builder class of a declaration.

    It is not registered by name: TFDS has data sets of its own that are called alike.
    """
    configs = [
        Config(name=name, options=dict(options)) for name, options in declaration.configs.items()
    ]
    if declaration.beam:
        configs += [dataclasses.replace(c, name=f"{c.name}_beam", beam=True) for c in configs]
    urls = {
        url: tfds.download.checksums.UrlInfo(size, checksum, url.rpartition("/")[2])
        for url, (size, checksum) in declaration.sources.items()
    }
    attributes = {
        "__module__": module_name,
        "__doc__": declaration.module.__doc__,
        "name": declaration.name,
        "declaration": declaration,
        "VERSION": tfds.core.Version(declaration.version),
        "BUILDER_CONFIGS": configs,
        "url_infos": urls,
        "MANUAL_DOWNLOAD_INSTRUCTIONS": declaration.module.__doc__,
    }
    title = "".join(part.capitalize() for part in declaration.name.split("_"))
    return type(Records)(title, (Records,), attributes, skip_registration=True)
