"""A checkpoint as what it takes to ask it: model, vocabulary, feature spec, streams."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

import objectives
from checkpoints import run_config, sources
from core.errors import ConfigError, DataError
from input_pipeline.regions.spec import FeatureSpec
from input_pipeline.texts.tokenizer import Tokenizer
from objectives import assemble, base, instances
from objectives.model import MultiTaskModel

_NEEDED = ("objectives", "streams", "dtype")


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a run or a shared folder says of how it was trained.

    Attributes:
      config: the whole.
      model: trunk, heads and objectives of all streams.
      tokenizer: of the vocabulary.
      spec: of the region features.
      place: for messages.
    """

    config: ConfigDict
    model: MultiTaskModel
    tokenizer: Tokenizer
    spec: FeatureSpec
    place: str
    _assemblers: dict[str, Callable[..., dict]] = dataclasses.field(default_factory=dict)

    def assembler(self, stream: str) -> Callable[..., dict]:
        """How the texts of a stream are laid out: as its first objective says."""
        if stream not in self._assemblers:
            first = self.config.streams[stream].objectives[0]
            block = self.config.objectives[first]
            self._assemblers[stream] = objectives.of_block(first, block).assembler(block)
        return self._assemblers[stream]

    def plain_assembler(self, stream: str) -> Callable[..., dict]:
        """The same for a single text, where an example of the stream has several."""
        if self.model.streams[stream][0].choices:
            return assemble.caption
        return self.assembler(stream)


def opened(source: sources.Source, dtype: str = "") -> Checkpoint:
    """Builds what a source describes.

    Args:
      source: a run or a shared folder.
      dtype: of matrix products; empty: as it was trained.

    Raises:
      ConfigError: it does not say how it was trained.
      DataError: it has no vocabulary, or does not say what its features are.
    """
    missing = [name for name in _NEEDED if name not in source.config]
    if missing:
        raise ConfigError(
            "this checkpoint does not say what it was trained for, so it cannot be asked",
            where=source.place,
            expected="a run, a folder that was shared of one, or a config of its task",
            found=f"no {', '.join(missing)} in its config (it is a {source.kind}, with heads "
            f"{sorted(source.heads)})",
            fix='load(place, config="configs/TASK.py:model=...", regions=STORE, ...), on the '
            "command line --config=..., see docs/inference.md; or use its trunk and heads: "
            "model(batch), model.head(...)",
        )
    if source.pieces is None:
        raise DataError(
            "this checkpoint has no vocabulary, so it cannot read texts",
            where=source.place,
            expected="vocab.txt",
            found="none",
            fix="load(place, vocab='vocab.txt') (on the command line --vocab=vocab.txt)",
        )
    if "feature_spec" not in source.data_metadata:
        raise DataError(
            "this checkpoint does not say what region features it was trained on",
            where=source.place,
            expected="feature_spec.json",
            found="none",
            fix="share it with the spec of its store: python -m checkpoints.convert "
            f"{source.place} --feature_spec=STORE/spec.json --out=FOLDER",
        )
    saved = run_config.completed(dict(remat="none") | dict(source.config))
    saved["optimizer"] = dict(saved.get("optimizer", {})) | dict(accumulate=1)
    config = run_config.restored(saved)
    with config.unlocked():
        instances.complete(config)
        config.dtype = dtype or config.dtype
        for block in config.streams.values():
            block.buckets = ()  # of training; what is asked has lengths of its own
    tokenizer = Tokenizer(list(source.pieces), source.place)
    spec = FeatureSpec.from_dict(source.data_metadata["feature_spec"], source.place)
    lists = {name: _lists(source.data_metadata, name, source) for name in config.streams}
    model = MultiTaskModel(config, tokenizer.special, spec, lists)
    return Checkpoint(config, model, tokenizer, spec, source.place)


def _lists(metadata: Mapping[str, Any], stream: str, source: sources.Source) -> base.OutputLists:
    """Answers and labels of a stream's data set."""
    common = dict(answers=source.answers, labels=metadata.get("labels"))
    own = metadata.get("streams", {}).get(stream, common)
    return base.OutputLists(
        answers=tuple(own.get("answers") or ()), labels=tuple(own.get("labels") or ())
    )
