"""The config of a run, read back from what the run saved: the one reader of it.

WORKDIR/config.json is the whole config that the run was last started with, WORKDIR/command.json
what the command line gave of it.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

import vl_models
from checkpoints import depth
from core import remote
from core.errors import DataError
from input_pipeline.datasets import options

CONFIG, COMMAND = "config.json", "command.json"
# What runs of earlier versions lack, and had.
_ADDED = {
    "init_layers": depth.ALL,
    "init_vision": "",
    "eval_intervals": (),
    "shard_state": False,
    "reduce_dtype": "float32",
}
_ADDED_TO_STREAMS = {"couples": 0, "canvases": (), "task": 0, "rate": 1.0, "score": ""}
_ADDED_TO_SCHEDULE = {
    "kind": "all",
    "order": (),
    "starts": (),
    "shares": (),
    "temperature": 1.0,
    "stop_and_go": dict(threshold=0.001, patience=1, cooldown=1, resume=0.005, gap=4, resets=()),
    "unused_heads": "untouched",
    "rate": "step",
}
_ADDED_TO_EVALS = {"visual_gain": {"hidden": "nothing"}}  # by evaluator
_BLOCKS = ("model", "data", "streams", "objectives", "optimizer", "evals")


@dataclasses.dataclass(frozen=True)
class Command:
    """What a command line gives of a config.

    Attributes:
      config: value of --config, such as "configs/vqa.py:model=vlbert".
      overrides: {dotted field: value} of the fields that are given beside it.
    """

    config: str
    overrides: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A run's own config.

    Attributes:
      config: the whole, locked.
      command: what it was made from; None where the run does not say.
    """

    config: ConfigDict
    command: Command | None

    def made_from(self, given: ConfigDict) -> bool:
        """Whether it is the config of a file with the fields changed that the run's command gave.

        Args:
          given: of the file; the fields are set in it.
        """
        if self.command is None:
            return False
        try:
            with given.unlocked():
                for name in self.command.overrides:
                    given.update_from_flattened_dict({name: _field(self.config, name)})
        except (KeyError, AttributeError, TypeError, ValueError):
            return False
        return plain(given) == plain(self.config)


def plain(config: ConfigDict) -> dict[str, Any]:
    """A config as JSON values."""
    return json.loads(json.dumps(config.to_dict(), default=list))


def restored(saved: Mapping[str, Any]) -> ConfigDict:
    """A config, or a part of one, from its JSON values: locked, with tuples for lists.

    As in a new config, the data of a stream follow `config.data` where they have its values.
    """
    config = ConfigDict(_tuples(saved))
    if "model" in config:
        config.model = ConfigDict(vl_models.completed(config.model.to_dict()))
    known = "dataset" in config.get("data", {})
    if known:
        config.data.update(_later(config.data, options.completed(config.data.to_dict())))
    for stream in config.get("streams", {}).values():
        if known and "data" in stream:
            shared = stream.data.dataset == config.data.dataset
            own = ConfigDict(options.completed(stream.data.to_dict()))
            followed = config.data.keys() if shared else options.SHARED
            block = options.following(config.data, followed)
            _set(block, own)
            stream.data = block
    config.lock()
    return config


def completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A whole config, as JSON values, with what those of earlier versions lack as it was then."""
    streams = {name: _ADDED_TO_STREAMS | block for name, block in saved["streams"].items()}
    evals = {
        name: _ADDED_TO_EVALS.get(block["evaluator"], {}) | block
        for name, block in saved.get("evals", {}).items()
    }
    schedule = _ADDED_TO_SCHEDULE | saved.get("stream_schedule", {})
    more = dict(streams=streams, evals=evals, stream_schedule=schedule)
    return _ADDED | dict(saved) | more


def read(workdir: str | os.PathLike) -> RunConfig | None:
    """The config of a run; None where the folder holds none.

    Args:
      workdir: the run folder, gs:// too.

    Raises:
      DataError: the file is damaged.
    """
    folder = remote.path(workdir)
    if not (folder / CONFIG).is_file():
        return None
    saved = _json(folder / CONFIG)
    command = None
    if (folder / COMMAND).is_file():
        found = _json(folder / COMMAND)
        if isinstance(found.get("config"), str) and isinstance(found.get("overrides"), dict):
            command = Command(found["config"], found["overrides"])
    lacking = [name for name in _BLOCKS if not isinstance(saved.get(name), dict)]
    if lacking:
        raise _damaged(folder / CONFIG, f"no {', '.join(lacking)}")
    try:
        return RunConfig(restored(completed(saved)), command)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise _damaged(folder / CONFIG, error) from error


def write_command(workdir: remote.Path, command: Command) -> None:
    """Writes WORKDIR/command.json."""
    text = json.dumps(dataclasses.asdict(command), indent=2, default=list)
    remote.replace(workdir / COMMAND, f"{text}\n".encode())


def _json(path: remote.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(found, dict):
        raise _damaged(path, f"a {type(found).__name__}")
    return found


def _damaged(path: remote.Path, found: object) -> DataError:
    return DataError(
        "the config of a run cannot be read",
        where=str(path),
        expected="JSON as training wrote it",
        found=f"{type(found).__name__}: {found}" if isinstance(found, Exception) else found,
        fix="give --config=<file> as it was given for the training; a run that continues writes "
        "the file anew",
    )


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping | ConfigDict):
        return {name: _tuples(inner) for name, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _later(block: ConfigDict, completed: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a completed block that the block itself does not have."""
    return {name: value for name, value in completed.items() if name not in block}


def _field(config: ConfigDict, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value[part]
    return value


def _set(block: ConfigDict, values: ConfigDict) -> None:
    """Gives a block other values where it has not these; what it lacks is added."""
    for name, value in values.items():
        if isinstance(value, ConfigDict) and isinstance(block.get(name), ConfigDict):
            _set(block[name], value)
        elif name not in block or block[name] != value:
            block[name] = value
