"""What a data set says of its TFDS builder."""

import dataclasses
import importlib
import types
from collections.abc import Mapping
from typing import Any

PACKAGE = "input_pipeline.datasets"


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What a TFDS builder is to be.

    Attributes:
      name: of the data set, its module's.
      record: dataclass of its examples (datasets.records).
      version: to be raised whenever the same files would give other records.
      sources: archives on public hosts, {url: (bytes, sha256)}; they are fetched where the manual
        folder has none of the files. Empty: the files are got by hand, as the module's docstring
        says.
      configs: {name of a TFDS config: options of the module's `files` and `records`}; needed of
        a module with OPTIONS, all of which each config sets.
      beam: the module has `beam_records(folder, split, **options)`, a transform that makes
        (number from 0, record); each config has a twin `<config>_beam` that uses it.
    """

    name: str
    record: type
    version: str = "1.0.0"
    sources: Mapping[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    beam: bool = False

    @property
    def module(self) -> types.ModuleType:
        """The data set's module."""
        return importlib.import_module(f"{PACKAGE}.{self.name}")
