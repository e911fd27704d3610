"""Official data sets as command lines and lists name them: DATASET[,OPTION=VALUE...]:SPLIT."""

import dataclasses
import importlib
from collections.abc import Mapping

from ml_collections import ConfigDict

from core.errors import DataError
from input_pipeline import datasets
from input_pipeline.datasets import options
from input_pipeline.datasets.reading import entries, official


@dataclasses.dataclass(frozen=True)
class Named:
    """A data set of a command line.

    Attributes:
      name: as it was given, without its splits.
      block: a `data` block with its options.
      reader: of its files.
      splits: what was given after each colon; each may be several joined with "+".
    """

    name: str
    block: ConfigDict
    reader: official.Reader
    splits: tuple[str, ...]


def parse(text: str, shared: Mapping[str, str], *, most: int = 1) -> Named:
    """Reads an argument "DATASET[,OPTION=VALUE...]:SPLIT[:SPLIT]".

    Args:
      text: the argument.
      shared: options that all data sets have, such as manual_dir.
      most: fields after the name; at least one is needed.

    Raises:
      DataError: it is none, or a data set without official files.
    """
    name, *splits = text.split(":")
    dataset, *settings = name.split(",")
    if not 1 <= len(splits) <= most or not all(splits) or dataset not in datasets.known():
        raise DataError(
            "no split of a data set",
            where=text,
            expected=f"DATASET[,OPTION=VALUE...]:SPLIT{'[:SPLIT]' * (most - 1)}, a data set of "
            + ", ".join(datasets.known()),
            found=text,
        )
    block = ConfigDict(options.of(dataset))
    block.update(shared)
    own = sorted(set(block) - {*options.SHARED, "dataset"})
    for setting in settings:
        option, _, value = setting.partition("=")
        if option not in own or not options.checks(dataset)[option].holds(value):
            known = [f"{o}: {options.checks(dataset)[o].expected}" for o in own]
            raise entries.unknown("option of a data set", known, setting, text)
        block[option] = value
    return Named(name, block, reader(dataset, block, text), tuple(splits))


def reader(dataset: str, data_config, entry: str) -> official.Reader:
    """The official files of a data set.

    Args:
      dataset: its name; its own options are those of `data_config` where that is of the same data
        set, else their defaults.
      data_config: a `data` block, which says where the files are.
      entry: how they were asked for, for messages.

    Raises:
      DataError: it has no official files.
    """
    module = importlib.import_module(f"{datasets.__name__}.{dataset}")
    if not hasattr(module, "records"):
        raise DataError(
            "a data set without official files",
            where=entry,
            expected="a data set under data.manual_dir",
            found=dataset,
            fix="for images to hold out, name a file of their ids",
        )
    block = data_config
    if dataset != data_config.dataset:  # its own options are not in this block
        block = ConfigDict(options.of(dataset))
        block.update({name: data_config[name] for name in options.SHARED})
    return official.Reader(module, block)
