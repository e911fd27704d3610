"""The embedded data set: drawn scenes with captions, from a seed, nothing to download.

It is built once under `<data.dir>/scenes/<key of the settings>` and holds what real data has: a
region store (from a detector that errs), texts with their probe words, a vocabulary, a plain
text corpus; and the scene graphs, from which further tasks can be made without touching the rest.
"""

import json
import pathlib

from input_pipeline.datasets import Prepared
from input_pipeline.datasets.scenes.settings import Settings
from input_pipeline.schema import DataError


def prepare(data_config) -> Prepared:
    """Builds the data set of these settings if it is not there yet.

    Args:
      data_config: the `data` block of a config; `dir`, `vocab_size` and `scenes` are read.

    Raises:
      DataError: settings that cannot be drawn, or a folder that is not what its name says.
    """
    # TensorFlow takes seconds to import; drawing scenes and measuring captions does without.
    from input_pipeline.datasets.scenes import build

    options = Settings.from_config(data_config)
    folder = pathlib.Path(data_config.dir) / "scenes" / options.key
    if not folder.is_dir():
        build.build(options, folder)
    built = _check(folder, options, build.BUILT)

    def known(split: str) -> str:
        if split not in options.splits:
            raise DataError(
                "unknown split of scenes",
                where="config.data.train_split or eval_split",
                expected=f"one of {sorted(options.splits)}",
                found=repr(split),
            )
        return split

    return Prepared(
        stores=[str(folder / build.REGIONS)],
        vocab=str(folder / build.VOCAB),
        rows=lambda split: build.read_rows(folder, known(split)),
        fingerprint=lambda split: built["captions"][known(split)],
        splits=tuple(options.splits),
        corpus=[str(folder / build.CORPUS)],
        priors=built["text_only"],
    )


def _check(folder: pathlib.Path, options: Settings, name: str) -> dict:
    """Reads the mark of a finished build and compares it with the settings."""
    try:
        built = json.loads((folder / name).read_text())
    except (OSError, ValueError) as error:
        built, found = None, f"{type(error).__name__}: {error}"
    if built is None or built["settings"] != options.to_dict():
        raise DataError(
            "a data set folder was not built from these settings",
            where=str(folder / name),
            expected=options.to_dict(),
            found=found if built is None else built["settings"],
            fix=f"remove {folder}; it is built again",
        )
    return built
