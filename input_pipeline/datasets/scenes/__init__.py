"""The embedded data set: drawn scenes with captions, from a seed, nothing to download.

It is built once under `<data.dir>/scenes/<key of the settings>` and holds what real data has: a
region store (from a detector that errs), texts with their probe words, a vocabulary, a plain
text corpus; and the scene graphs, from which `data.records` makes questions or referring
expressions, as pure functions of the graphs, beside the captions. On gs:// its regions are read in
place, and the rest is copied to this machine.
"""

import json
import pathlib
from collections.abc import Iterator

from core import remote, strict_json
from core.errors import DataError
from input_pipeline.datasets.options.scenes import RECORDS
from input_pipeline.datasets.reading import answer_list
from input_pipeline.datasets.reading.prepared import Prepared
from input_pipeline.datasets.records import MultipleChoice, RowOptions
from input_pipeline.datasets.scenes import captions, cloze, detector, graph
from input_pipeline.datasets.scenes.settings import Settings
from input_pipeline.regions.store import split_paths
from input_pipeline.texts.rows import Row


def prepare(data_config) -> Prepared:
    """Builds the data set of these settings if it is not there yet.

    Args:
      data_config: the `data` block of a config; `dir`, `vocab_size`, `records` and `scenes` are
        read, for questions also `answers` and `answer_count`; `regions` names a store of another
        detector's regions of the pictures, empty: those of the built-in one.

    Raises:
      DataError: settings that cannot be drawn, unknown records, or a folder that is not what its
        name says.
    """
    # TensorFlow takes seconds to import; drawing scenes and measuring captions does without.
    from input_pipeline.datasets.scenes import build, tasks

    if data_config.records not in RECORDS:
        raise DataError(
            "unknown records of scenes",
            where="--config.data.records",
            expected=f"one of {RECORDS}",
            found=repr(data_config.records),
        )

    options = Settings.from_config(data_config)
    place = remote.path(data_config.dir) / "scenes" / options.key
    if not remote.complete(place, build.BUILT):
        build.build(options, place)
    folder = remote.mirror(place, lambda name: not name.startswith(f"{build.REGIONS}/"))
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

    common = dict(
        stores=split_paths(data_config.regions) or [str(place / build.REGIONS)],
        vocab=str(folder / build.VOCAB),
        splits=tuple(options.splits),
        corpus=[str(folder / build.CORPUS)],
        pictures=lambda ids: build.read_pictures(folder, options.splits, ids),
        picture_store=lambda: build.picture_store(folder, options.splits),
        objects=lambda split: build.read_objects(folder, known(split)),
        object_names=(detector.CLASSES[1:], build.ATTRIBUTES),
    )
    if data_config.records == "captions":
        return Prepared(
            **common,
            rows=lambda split: build.read_rows(folder, known(split)),
            fingerprint=lambda split: built["captions"][known(split)],
            priors=built["text_only"],
            kinds=captions.KINDS,
        )
    if data_config.records in ("cloze", "swapped"):
        rows_of = dict(cloze=build.cloze_rows, swapped=build.swapped_rows)[data_config.records]
        return Prepared(
            **common,
            rows=lambda split: rows_of(folder, known(split), options.seed),
            fingerprint=lambda split: (
                f"{data_config.records} {cloze.VERSION} {built['captions'][known(split)]}"
            ),
            kinds=captions.KINDS,
            sources=cloze.SOURCES,
        )

    def records(split: str) -> Iterator:
        scenes = build.read_scenes(folder, known(split))
        return tasks.records(data_config.records, scenes, options.seed)

    def fingerprint(split: str) -> str:
        return json.dumps([data_config.records, tasks.VERSION, built["captions"][known(split)]])

    answers, targets = None, None
    if data_config.records == "questions":
        train = data_config.train_split
        answers = answer_list.named_or_built(
            data_config, lambda: records(train), lambda: fingerprint(train)
        )
        targets = answer_list.Targets(answers, records, train, "verbatim")

    def rows(split: str) -> Iterator[Row]:
        options = RowOptions(
            answers=answers,
            kind=data_config.records,
            classes=graph.ATTRIBUTES["shape"],
            all_regions=True,  # a detector's; candidates are the true boxes
            answer_form="verbatim",
        )
        for record in records(split):
            yield from record.rows(options)

    def full_fingerprint(split: str) -> str:
        version = MultipleChoice.version_of_rows(data_config.records)
        return (
            fingerprint(split)
            + (targets.fingerprint if targets else "")
            + f" rows {version}" * (version > 1)
        )

    return Prepared(
        **common,
        rows=rows,
        fingerprint=full_fingerprint,
        answers=answers,
        records=records,
        review=targets.review if targets else None,
        labels=tasks.LABELS.get(data_config.records, ()),
    )


def _check(folder: pathlib.Path, options: Settings, name: str) -> dict:
    """Reads the mark of a finished build and compares it with the settings."""
    try:
        built = strict_json.parse((folder / name).read_bytes())
        found = built["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
    if found != options.to_dict():
        raise DataError(
            "a data set folder was not built from these settings",
            where=str(folder / name),
            expected=options.to_dict(),
            found=found,
            fix=f"remove {folder}; it is built again",
        )
    return built
