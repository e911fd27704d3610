"""The objectives of a config: those of a stream, what they agree on, and those of a saved run."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ml_collections import ConfigDict

import objectives
from core.errors import ConfigError
from input_pipeline.schema import SpecialIds
from objectives import base
from vl_models.heads import HeadSpec
from vl_models.layers import FIRST_PAIR, Pairs
from vl_models.trunk import Trunk


@runtime_checkable
class FeatureSpec(Protocol):
    """What objectives read of a region store's spec; see `input_pipeline.regions.spec`."""

    @property
    def feature_dim(self) -> int: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def global_feature(self) -> str: ...


def of_stream(
    config: ConfigDict,
    stream: str,
    special: SpecialIds,
    spec: FeatureSpec,
    lists: base.OutputLists,
) -> list[base.Objective]:
    """The objectives of a stream, in the order of corruption.

    Args:
      config: the whole config.
      stream: name of it.
      special: `schema.SpecialIds` of the vocabulary.
      spec: feature spec of the region store.
      lists: answers and labels of the stream's data set.

    Raises:
      ConfigError: an unknown objective, or options that are wrong.
      DataError: data that an objective cannot learn from.
    """
    data_info = base.DataInfo(
        special=special,
        max_text=config.streams[stream].max_text,
        feature_dim=spec.feature_dim,
        num_classes=spec.num_classes,
        stored_mean=spec.global_feature == "mean",
        lists=lists,
        stream=stream,
        order=config.streams[stream].order,
        pixels=config.model.get("features") == "pixels",
    )
    found = []
    for name in config.streams[stream].objectives:
        if name not in config.objectives:
            raise ConfigError(
                "a stream names an objective that there is not",
                where=f"config.streams.{stream}.objectives",
                expected=f"names of {sorted(config.objectives)}",
                found=repr(name),
            )
        found.append(objectives.build(name, config.objectives[name], data_info))
    return sorted(found, key=lambda objective: objective.phase)


def complete(config: ConfigDict) -> None:
    """Gives the objectives of a saved config the options that came later, in place."""
    for name, block in config.objectives.items():
        config.objectives[name] = ConfigDict(objectives.options.completed(name, block))


def saved_heads(
    config: Mapping[str, Any],
    trunk: Trunk,
    special: SpecialIds,
    spec: FeatureSpec,
    lists: base.OutputLists,
) -> dict[str, HeadSpec]:
    """The heads of a run that was saved before checkpoints said how theirs are built.

    Args:
      config: the run's whole config, as JSON values.
      trunk: its trunk.
      special, spec: as of `of_stream`.
      lists: of its data set.
    """
    saved = ConfigDict(dict(config))
    complete(saved)
    return {
        objective.head_name: objective.head(trunk)
        for stream, block in saved.streams.items()
        if block.batch_size > 0
        for objective in of_stream(saved, stream, special, spec, lists)
    }


def pairs_of(stream: str, found: Sequence[base.Objective]) -> Pairs:
    """The pairs of texts and images that a stream's objectives agree on.

    Raises:
      ConfigError: they do not.
    """
    said = {one.pairs: one.name for one in found if one.pairs is not None}
    if len(said) > 1:
        raise ConfigError(
            f"config.streams.{stream}: its objectives pair texts and images differently: "
            + "; ".join(f"{name} {pairs}" for pairs, name in said.items())
        )
    return next(iter(said), FIRST_PAIR)
