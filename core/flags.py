"""The command line of a program that takes a config: what the user got wrong is one message."""

import difflib
import importlib.util
import inspect
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from core.console import say, warn
from core.errors import ConfigError, UserError

HELP = ("help", "h", "?", "helpshort")
_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: 'values in brackets, such as "(1, 2)"',
    str: "text",
}
_ALIKE = 0.75  # share of letters in common of names that are told as near ones
# Fields that say what a block is of, and so which fields it has.
_KINDS = ("dataset", "name", "kind", "evaluator")
_CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


def parse(
    argv: Sequence[str],
    *,
    start: Callable[[str], ConfigDict],
    about: Callable[[], str],
) -> list[str]:
    """Parses `--config=`, its fields `--config.a.b=` and all other flags, or ends the program.

    Args:
      argv: with the program's name.
      start: start(value of --config, "" where it is not given) → config that the fields change.
      about: about() → text for --help.

    Returns:
      The arguments that are no flags, with the program's name. `flags.FLAGS.config` is the config.
    """
    try:
        argument, rest = _without_config(argv)
        given = {arg.lstrip("-").partition("=")[0] for arg in _flags(argv)}
        if given & set(HELP):
            say(about())
            sys.exit(0)
        if "helpfull" not in given:
            config = start(argument)
            for name in _fields(rest):
                require_field(config, name)
            config_flags.DEFINE_config_dict(
                "config", config, flag_values=flags.FLAGS, sys_argv=rest, allow_override=True
            )
        return flags.FLAGS(rest)
    except flags.IllegalFlagValueError as error:
        warn(f"error: {_wrong_value(config, str(error))}")
    except (UserError, flags.Error) as error:
        warn(f"error: {error}")
    sys.exit(1)


def overrides() -> dict[str, Any]:
    """{field: value} of the fields that the command line gave; after `parse`."""
    return dict(config_flags.get_override_values(flags.FLAGS["config"]))


def value_in(argv: Sequence[str], name: str) -> str:
    """The value of a flag before flags are parsed; "" where it is not given."""
    found, arguments = "", list(_flags(argv))
    for i, arg in enumerate(arguments):
        flag, equals, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and flag == name:
            found = value if equals else "".join(arguments[i + 1 : i + 2])
    return found


def load(argument: str) -> ConfigDict:
    """The config of a file: what its `get_config` gives for the argument after a colon.

    Errors other than ValueError in the file are bugs, and pass.

    Args:
      argument: as in `--config=configs/vqa.py:model=vlbert`.

    Raises:
      ConfigError: no such file, one without `get_config`, or an argument that it does not take.
    """
    file, colon, text = argument.partition(":")
    if not file.endswith(".py") or not os.path.isfile(file):
        known = known_files()
        raise ConfigError(
            f"--config: no such file: {file}",
            expected=f"the path of a config, such as {', '.join(known)}" if known else "",
            fix=_nearest(file, known, "--config={}" + colon + text)
            or "python main.py --help lists the configs and their arguments",
        )
    spec = importlib.util.spec_from_file_location("config_file", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(
            "--config: the file has no function get_config",
            where=file,
            expected=f"a config, such as {', '.join(known_files())}",
        )
    if colon and not inspect.signature(module.get_config).parameters:
        raise ConfigError("--config: this config takes no arguments", where=file, found=repr(text))
    try:
        config = module.get_config(*([text] if colon else []))
    except ValueError as error:  # as `parse_arg` and the presets raise it
        raise ConfigError(str(error), where=f"--config={argument}") from error
    config.lock()
    return config


def known_files() -> list[str]:
    """Paths of this project's configs, as they are given to --config in its folder."""
    return sorted(
        os.path.relpath(path)
        for path in _CONFIGS.glob("*.py")
        if "\ndef get_config(" in path.read_text(encoding="utf-8")
    )


def require_field(config: ConfigDict, name: str) -> None:
    """Checks that a config has a field.

    Args:
      config: the config.
      name: dotted.

    Raises:
      ConfigError: it does not; names the fields that are most like it.
    """
    block: Any = config
    parts = name.split(".")
    for depth, part in enumerate(parts):
        if "[" in part or isinstance(block, list | tuple):
            return  # an index, which is checked when it is set
        known = list(block) if isinstance(block, ConfigDict) else []
        if part not in known:
            raise ConfigError(
                f"the config has no such field: config.{name}",
                where=".".join(["config", *parts[:depth]]),
                expected=f"one of {', '.join(known)}{_kind_of(block)}"
                if known
                else "a value, not fields of it",
                found=part,
                fix=_field_like(config, known, parts, depth)
                or "--mode=config prints all fields with their meaning",
            )
        block = block[part]


def _kind_of(block: ConfigDict) -> str:
    """What a block is of, which its fields follow from."""
    kinds = [name for name in _KINDS if name in block]
    return f"; of {kinds[0]}={block[kinds[0]]!r}, which --config=FILE:... chooses" if kinds else ""


def _field_like(config: ConfigDict, known: Sequence[str], parts: Sequence[str], depth: int) -> str:
    """--config.FIELD=... of a field whose name is like a wrong one; "" where there is none."""
    near = difflib.get_close_matches(parts[depth], known, n=1, cutoff=_ALIKE)
    if near:
        return f"--config.{'.'.join([*parts[:depth], near[0], *parts[depth + 1 :]])}=..."
    leaves = list(_leaves(config))
    last = [leaf for leaf in leaves if leaf.split(".")[-1] == parts[-1] and ".data." not in leaf]
    last = last or difflib.get_close_matches(".".join(parts), leaves, n=1, cutoff=_ALIKE)
    return " or ".join(f"--config.{leaf}=..." for leaf in last[:3])


def _leaves(block: ConfigDict, before: str = "") -> Iterator[str]:
    for name, value in block.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield before + name


def _nearest(word: str, known: Sequence[str], text: str) -> str:
    """`text` with the known path that is most like a wrong one, by its name."""
    names = {pathlib.PurePath(path).stem: path for path in known}
    near = difflib.get_close_matches(pathlib.PurePath(word).stem, list(names), n=1, cutoff=0.5)
    return text.format(names[near[0]]) if near else ""


def _flags(argv: Sequence[str]) -> list[str]:
    """The arguments up to "--", without the program's name."""
    arguments = list(argv[1:])
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _fields(argv: Sequence[str]) -> list[str]:
    """Dotted names of the config's fields that are given."""
    found = (re.match(r"--?(?:no)?config\.([^=]+)", arg) for arg in _flags(argv))
    return [match[1] for match in found if match]


def _without_config(argv: Sequence[str]) -> tuple[str, list[str]]:
    """(value of --config, the other arguments)."""
    argument, rest, arguments = "", [], iter(argv)
    for arg in arguments:
        if arg == "--":
            rest += [arg, *arguments]
        elif arg in ("--config", "-config"):
            argument = next(arguments, "")
        elif re.match(r"--?config=", arg):
            argument = arg.partition("=")[2]
        else:
            rest.append(arg)
    return argument, rest


def _wrong_value(config: ConfigDict, message: str) -> str | UserError:
    """absl's message of a value that a flag does not take, in our words for a config's field."""
    match = re.match(r"flag --(config\.([\w.]+))=(.*?): ", message, re.DOTALL)
    if match is None:
        return message
    value: Any = config
    for name in match[2].split("."):
        value = value[name] if isinstance(value, Mapping | ConfigDict) else None
    return ConfigError(
        "a setting has a wrong value",
        where=match[1],
        expected=_TYPES.get(type(value), f"a value like {value!r}"),
        found=repr(match[3]),
        fix=f"--{match[1]}={value}",
    )
