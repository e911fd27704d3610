"""TFDS builders of the official data sets, and reading back what they built.

  tfds build input_pipeline/datasets/coco_captions.py --manual_dir=official --data_dir=built

with the project installed, or else with PYTHONPATH=. before it. Example i of a split is record i;
str, int and tuples are TFDS's own features, floats are float64 kept as bytes (an Example's own
floats are float32), so that records come back exactly. Several nested tuples are ragged features.

A data set's module says `BUILDER = declare(__name__, Caption)`. Nothing here imports TensorFlow
before a table is built or read: it takes seconds.
"""

import dataclasses
import pathlib
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from core.errors import DataError
from input_pipeline.datasets.reading.declaration import PACKAGE, Declaration


def declare(module_name: str, record: type, **options: Any) -> Declaration:
    """A data set's builder.

    Args:
      module_name: its module's __name__.
      record: dataclass of its examples.
      **options: further attributes of Declaration.
    """
    declaration = Declaration(module_name.rpartition(".")[2], record, **options)
    if not module_name.startswith(PACKAGE):
        # `tfds build` imports the file under a name of its own and takes the builder class whose
        # __module__ that is.
        _builder_class(declaration, module_name)
    return declaration


def _builder_class(declaration: Declaration, module_name: str) -> type:
    from input_pipeline.datasets.reading import tfds_builder

    return tfds_builder.builder_class(declaration, module_name)


def build(
    declaration: Declaration, manual_dir: str, data_dir: str, config: str = "", **options: Any
) -> str:
    """Builds a table as `tfds build` does; returns its folder.

    Args:
      declaration: of the data set.
      manual_dir: folder of the official files.
      data_dir: where built tables are.
      config: TFDS config; empty: the first one.
      **options: of tfds.download.DownloadConfig.
    """
    from input_pipeline.tensorflow_modules import tfds

    built = _builder_class(declaration, __name__)(data_dir=data_dir, config=config or None)
    built.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, **options)
    )
    return str(built.data_path)


def find_built(declaration: Declaration, data_dir: str, options: Mapping[str, Any]) -> str:
    """Folder of a built table.

    Args:
      declaration: of the data set.
      data_dir: `--data_dir` of `tfds build`.
      options: of `records`; they choose among the TFDS configs.

    Raises:
      DataError: it was not built, or in another version.
    """
    base = pathlib.Path(data_dir) / declaration.name
    # A table is built whole, so what to do about missing parts is settled.
    options = {name: value for name, value in options.items() if name != "on_missing"}
    configs = [name for name, values in declaration.configs.items() if values == options]
    folders = [base / name for name in configs]
    if not declaration.configs and not options:
        folders = [base]
    if declaration.beam:
        folders += [folder.with_name(f"{folder.name}_beam") for folder in folders]
    for folder in folders:
        if (folder / declaration.version / "dataset_info.json").is_file():
            return str(folder / declaration.version)
    there = sorted(str(path.parent) for path in base.rglob("dataset_info.json"))
    flag = f" --config={configs[0]}" if configs else ""
    raise DataError(
        "a data set was not built",
        where=f"--config.data.tfds_dir={data_dir}",
        expected=" or ".join(str(folder / declaration.version) for folder in folders)
        or f"one of the configs {dict(declaration.configs)}, not {options}",
        found=there or f"nothing under {base}",
        fix=f"tfds build input_pipeline/datasets/{declaration.name}.py{flag} --manual_dir=... "
        f"--data_dir={data_dir}, or read the official files with --config.data.manual_dir",
    )


def built_files(folder: str, split: str) -> list[str]:
    """The files of a split of a built table.

    Args:
      folder: of `find_built`.
      split: name of one split.

    Raises:
      DataError: the table has no such split.
    """
    splits: dict[str, list[str]] = {}
    for path in sorted(pathlib.Path(folder).glob("*-of-*")):  # <data set>-<split>.tfrecord-...
        splits.setdefault(path.name.partition(".")[0].partition("-")[2], []).append(str(path))
    if split not in splits:
        raise DataError(
            "a built data set lacks a split",
            where=folder,
            expected=repr(split),
            found=sorted(splits),
            fix="build it again (--overwrite) with the files of that split in the manual folder",
        )
    return splits[split]


def read_built(record: type, folder: str, split: str) -> Iterator[Any]:
    """The records of a split of a built table, in the order of the official files.

    Args:
      record: their dataclass.
      folder: of `find_built`.
      split: name of one split.

    Raises:
      DataError: the table has no such split.
    """
    built_files(folder, split)
    from input_pipeline.tensorflow_modules import tfds

    table = tfds.builder_from_directory(folder)
    # One file after the other: TFDS would deal from sixteen in turn.
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    data = table.as_dataset(split=split, shuffle_files=False, read_config=config)
    for example in data.as_numpy_iterator():
        yield decode(record, example)


def _at(value: Any, i: int) -> Any:
    """Entry i of a sequence, which TFDS keeps as a dict of sequences where entries are dicts."""
    return {key: _at(v, i) for key, v in value.items()} if isinstance(value, dict) else value[i]


def _length(value: Any) -> int:
    return _length(next(iter(value.values()))) if isinstance(value, dict) else len(value)


def decode(kind: Any, value: Any) -> Any:
    """A value of type `kind` from what TFDS gives for its features."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: decode(hint, value[name]) for name, hint in hints.items()})
    if kind is str:
        return value.decode()
    if kind in (int, float):
        return kind(value)
    items = typing.get_args(kind)  # tuple[x, ...] or tuple[float, float, ...]
    return tuple(decode(items[0], _at(value, i)) for i in range(_length(value)))
