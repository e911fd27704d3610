"""Published files, which hold parameters alone, with what it takes to ask them.

What the file does not say is given: how texts and images are laid out and which objective answers
(a config of its task), its vocabulary, its answer list, and what its region features are.
"""

import dataclasses
import importlib.util
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from checkpoints import published_model, run_config, sources
from core import remote, strict_json
from core.errors import ConfigError, DataError
from input_pipeline.datasets.reading.answers import AnswerVocabulary
from input_pipeline.regions.spec import FeatureSpec
from objectives.model import MultiTaskModel
from vl_models.heads import HeadSpec

_IGNORED = ("dropout", "input_dropout")  # of a head that is used, not trained


@dataclasses.dataclass(frozen=True)
class Description:
    """What is given beside a published file.

    Attributes:
      config: of its task, as main.py takes it ("configs/FILE.py:ARGUMENTS"), or a ConfigDict.
      fields: {dotted field: value} that are other than in the config.
      answers: file of the answer list in the order of its answer head, or the list.
      labels: names of its classes, in order; () where they have none.
      spec: of its region features, or the spec.json or region store that says it.
    """

    config: str | ConfigDict = ""
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    answers: str | Sequence[str] = ""
    labels: Sequence[str] = ()
    spec: str | FeatureSpec = ""


def described(source: sources.Source, given: Description) -> sources.Source:
    """A published file as a source that says how it was trained.

    Args:
      source: of the file.
      given: what it does not say.

    Raises:
      ConfigError: a source that says it itself; a config that cannot be read, or whose tasks the
        file has no heads for.
      DataError: what is missing, all at once, and how it is given.
    """
    if "objectives" in source.config:
        raise ConfigError(
            "this checkpoint says itself how it was trained",
            where=source.place,
            expected="no config",
            found=f"one, and a {source.kind}",
            fix="leave it out",
        )
    config = _read(given.config).lock()
    try:
        config.update_from_flattened_dict(dict(given.fields))
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            "a field does not fit the config", expected="its fields and types", found=str(error)
        ) from error
    config.unlock()
    answers = given.answers or config.data.get("answers", "")
    _keep_what_it_has(config, source)
    missing = _missing(config, source, given, answers)
    if missing:
        raise DataError(
            "a published file does not say all that it takes to ask it",
            where=source.place,
            expected="; ".join(missing),
            found="none",
            fix="load(place, " + ", ".join(f"{name.split(' ')[0]}=..." for name in missing)
            + "), on the command line --" + " --".join(f"{n.split(' ')[0]}=..." for n in missing),
        )  # fmt: skip
    config.model = ConfigDict(_model_block(config, source))
    if answers and isinstance(answers, str):
        answers = AnswerVocabulary.load(answers).labels
    spec = _spec(given.spec)
    size = published_model.feature_dim(source.arrays)
    if size != spec.feature_dim:
        raise DataError(
            "features of another size",
            where=source.place,
            expected=f"{size} numbers per region, as the model reads",
            found=f"{spec.feature_dim} of {spec.detector!r}",
        )
    metadata = dict(feature_spec=spec.to_dict(), labels=list(given.labels))
    return dataclasses.replace(
        source,
        config=run_config.plain(config),
        answers=list(answers) or source.answers,
        data_metadata=metadata,
    )


def _read(config: str | ConfigDict) -> ConfigDict:
    """The config.

    Raises:
      ConfigError: no such file, or arguments that it does not take.
    """
    if isinstance(config, ConfigDict):
        found = config.copy_and_resolve_references()
    else:
        path, _, arguments = config.partition(":")
        where = pathlib.Path(path)
        try:
            made = importlib.util.spec_from_file_location(f"_config_{where.stem}", where)
            module = importlib.util.module_from_spec(made)  # type: ignore[arg-type]
            made.loader.exec_module(module)  # type: ignore[union-attr]
            found = ConfigDict(module.get_config(arguments or None)).copy_and_resolve_references()
        except (OSError, AttributeError, ImportError, ValueError) as error:
            raise ConfigError(
                "a config cannot be read",
                where=config,
                expected="FILE.py:ARGUMENTS, as main.py takes it",
                found=f"{type(error).__name__}: {error}",
            ) from error
    return found


def _keep_what_it_has(config: ConfigDict, source: sources.Source) -> None:
    """Leaves out objectives whose heads the file does not have, and streams without any.

    Raises:
      ConfigError: nothing is left.
    """
    wanted = set()
    for block in config.streams.values():
        names = [(name, config.objectives[name].get("head") or name) for name in block.objectives]
        wanted |= {head for _, head in names}
        block.objectives = tuple(name for name, head in names if head in source.heads)
        if not block.images or not block.objectives:
            block.batch_size = 0
    if not any(block.batch_size for block in config.streams.values()):
        raise ConfigError(
            "the config is of another task than the published file",
            where=source.place,
            expected=f"one with heads of {sorted(source.heads)}",
            found=f"heads {sorted(wanted)}",
            fix="name the config of its task, see docs/checkpoints.md",
        )


def _missing(
    config: ConfigDict, source: sources.Source, given: Description, answers: Any
) -> list[str]:
    """What is not given: "name (what it is)" each."""
    found = []
    if source.pieces is None:
        found.append("vocab (vocab.txt of its word pieces)")
    heads = {
        config.objectives[name].get("head") or name
        for block in config.streams.values()
        if block.batch_size
        for name in block.objectives
    }
    if not answers and any(source.heads[head].named_by == "answers" for head in heads):
        found.append("answers (file of its answer list, in the order of its head)")
    if not given.spec:
        found.append("regions (a store of the features that it was trained on)")
    return found


def _model_block(config: ConfigDict, source: sources.Source) -> dict[str, Any]:
    """The model by the arrays; heads of attention by the config where its widths are the file's."""
    block = published_model.block(source)
    if block["name"] != config.model.name:
        raise ConfigError(
            "the config is of another model than the published file",
            where=source.place,
            expected=block["name"],
            found=f"config.model.name={config.model.name!r}",
        )
    for mine, theirs in (
        (block, config.model),
        *((block[k], config.model[k]) for k in ("image", "connect") if k in block),
    ):
        if theirs.hidden == mine["hidden"]:
            mine["heads"] = theirs.heads
    return block


def _spec(given: str | FeatureSpec) -> FeatureSpec:
    """Raises DataError where a file is no spec."""
    if isinstance(given, FeatureSpec):
        return given
    path = remote.path(given)
    path = path / "spec.json" if path.is_dir() else path
    try:
        return FeatureSpec.from_dict(strict_json.parse(path.read_bytes()), str(path))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "a feature spec cannot be read", where=str(path), expected="spec.json of a store",
            found=str(error),
        ) from error  # fmt: skip


def check_heads(model: MultiTaskModel, heads: Mapping[str, HeadSpec], place: str) -> None:
    """Raises ConfigError where the file's heads are built otherwise than the config says."""
    sizes = dict(
        text=model.trunk.sizes.hidden,
        regions=model.trunk.region_sizes.hidden,
        pooled=model.trunk.pooled_width,
    )
    for name, spec in model.head_specs.items():
        mine, theirs = _built(spec, sizes), _built(heads[name], sizes)
        if mine != theirs:
            raise ConfigError(
                f"the head {name!r} of the published file is another than the config says",
                where=place,
                expected=theirs,
                found=mine,
                fix="give the answer list of its length (answers=...), or set the options of the "
                "objective that are its own (config.objectives...), see docs/checkpoints.md",
            )


def _built(spec: HeadSpec, sizes: Mapping[str, int]) -> dict[str, Any]:
    """How a head is built, defaults and all."""
    found = dict(module=spec.module, reads=spec.reads, norm=False, activation="gelu")
    options = {key: value for key, value in spec.options.items() if key not in _IGNORED}
    if spec.module == "classifier":
        found["width"] = sizes[spec.reads]
    return found | {key: value for key, value in options.items() if value is not None}
