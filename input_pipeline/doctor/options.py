"""Options of layouts on the doctor's command lines, whichever layout the files turn out to have.

A command takes the options of all layouts, as texts; `complete` makes them those of one layout.
"""

import argparse
from collections.abc import Mapping
from typing import Any, NoReturn

from core.errors import DataError
from input_pipeline import importers


class _Strict(argparse.ArgumentParser):
    """Raises DataError where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        raise DataError("a layout cannot take an option", where=self.prog, found=message)


def _parser(layout: str) -> _Strict:
    parser = _Strict(prog=f"layout {layout}", add_help=False, allow_abbrev=False)
    importers.load(layout).Layout.add_arguments(parser)
    return parser


def complete(
    layout: str, options: Mapping[str, Any], shared: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All options of a layout: those given, texts converted, and defaults.

    Args:
      layout: its name.
      options: for it; they count before shared ones.
      shared: for it if it has them.

    Raises:
      DataError: the layout has no such option, or cannot take its value.
    """
    parser = _parser(layout)
    values = vars(parser.parse_args([]))
    options = {**{k: v for k, v in (shared or {}).items() if k in values}, **options}
    unknown = sorted(set(options) - set(values))
    if unknown:
        known = ", ".join(f"--{name}" for name in sorted(values)) or "no options"
        raise DataError(
            f"a layout has no option --{unknown[0]}",
            where=f"layout {layout}",
            expected=known,
            found=", ".join(f"--{name}" for name in unknown),
            fix="name another --layout, or leave the option out",
        )
    texts = {name: value for name, value in options.items() if isinstance(value, str)}
    command = [f"--{name}={value}" for name, value in texts.items()]
    given = {name: value for name, value in options.items() if name not in texts}
    return {**vars(parser.parse_args(command)), **given}


def add_to(parser: argparse.ArgumentParser, layout: str, prefixes: tuple[str, ...] = ("",)) -> None:
    """Adds the options of all layouts; shows those of one in --help, or says how to see them.

    Args:
      parser: of a command.
      layout: whose options are shown; empty: none.
      prefixes: before the options' names.
    """
    shown = {action.dest: action for action in _parser(layout)._actions} if layout else {}
    group = parser.add_argument_group(
        f"options of {layout}" if layout else "options of raw files",
        None if layout else "those of their layout: --layout NAME --help lists them",
    )
    flags: dict[str, bool] = {}  # {option: whether it takes no value}
    for name in importers.known():
        try:
            actions = _parser(name)._actions
        except DataError:  # a package is not installed
            continue
        flags.update({action.dest: action.nargs == 0 for action in actions})
    for option, is_flag in flags.items():
        for prefix in prefixes:
            if f"--{prefix}{option}" in parser._option_string_actions:
                continue  # the command's own; the layout's is taken by an import alone
            help_text = argparse.SUPPRESS
            if option in shown:
                alone = f" ({prefix[0]} alone)" if prefix else ""
                help_text = (shown[option].help or "") + alone
            group.add_argument(
                f"--{prefix}{option}",
                dest=_destination(prefix, option),
                default=None,
                help=help_text,
                **({"action": "store_true"} if is_flag else {}),
            )


def _destination(prefix: str, option: str) -> str:
    return f"option:{prefix}:{option}"


def given(arguments: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{option: text, or True for a flag} as given with a prefix on the command line."""
    start = _destination(prefix, "")
    return {
        name.removeprefix(start): value
        for name, value in arguments.items()
        if name.startswith(start) and value
    }
