"""The command line of `input_pipeline.beam`."""

if __name__ == "__main__":
    from core import interrupts

    interrupts.begin(interrupts.STOPPED)  # before what takes seconds to import

import ast
import re
import sys
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from core import checks, flags
from core.console import command, say, warn
from core.errors import ConfigError
from input_pipeline import beam, datasets
from input_pipeline.beam import texts
from input_pipeline.datasets import options
from input_pipeline.importers import __main__ as importers
from input_pipeline.importers.elsewhere import Engine

FIELD = re.compile(r"--config\.data\.([\w.]+)=(.*)", re.DOTALL)
PROGRAM = "python -m input_pipeline.beam"


@command
def main(argv: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    named = argv[1:2] and not argv[1].startswith("-")
    if {"-h", "--help"} & set(argv) and not (argv[0] == "regions" and named):
        say(beam.__doc__ or "")
        return 0
    if argv[:1] not in (["regions"], ["texts"]) or not named:
        warn(f"error: what is to be done comes first\n{beam.__doc__}")
        return 2
    {"regions": _regions, "texts": _texts}[argv[0]](argv[1], argv[2:])
    return 0


def _regions(layout: str, arguments: Sequence[str]) -> None:
    """An import; see `importers.run.convert` for what it raises."""
    parser = importers.parser_of(layout, f"{PROGRAM} regions")
    parser.allow_abbrev = False  # --region is Dataflow's
    if any(argument.partition("=")[0] == "--workers" for argument in arguments):
        raise ConfigError(
            "workers are the engine's",
            expected="--num_workers (Dataflow), --parallelism (Flink), --direct_num_workers, ...",
            found="--workers",
        )
    own, flags_of_beam = parser.parse_known_args(arguments)
    importers.imported(layout, vars(own), _engine(flags_of_beam))


def _texts(named: str, arguments: Sequence[str]) -> None:
    """A table of texts; see `texts.build` for what it raises."""
    dataset, _, split = named.partition(":")
    if dataset not in datasets.known() or not split:
        raise ConfigError(
            "no split of a data set",
            expected=f"DATASET:SPLIT, a data set of {', '.join(datasets.known())}",
            found=repr(named),
        )
    fields = [match for argument in arguments if (match := FIELD.fullmatch(argument))]
    rest = [argument for argument in arguments if not FIELD.fullmatch(argument)]
    block = block_of(dataset, {match[1]: match[2] for match in fields})
    folder, parts = texts.build(block, split, _engine(rest))
    say(f"wrote {folder}: {parts:,} stretches" if parts else f"{folder} is there already")


def _engine(options_of_beam: Sequence[str]) -> Engine:
    """The engine that options choose.

    Raises:
      ConfigError: an option that Beam does not know, or no Beam.
    """
    try:
        from input_pipeline.beam import engine
    except ModuleNotFoundError as error:
        if error.name != "apache_beam":
            raise
        raise ConfigError(
            "a package is not installed",
            expected="apache_beam",
            found=str(error),
            fix='pip install -c requirements.lock -e ".[beam]"',
        ) from error
    return engine.Engine(options_of_beam)


def block_of(dataset: str, fields: dict[str, str]) -> ConfigDict:
    """The `data` block of a data set with some fields set, as main.py would have it.

    Args:
      dataset: its name.
      fields: {dotted name in the block: value as it is written on the command line}.

    Raises:
      ConfigError: no such field, or a value that it cannot have.
    """
    config = ConfigDict({"data": options.of(dataset)})
    for name, text in fields.items():
        flags.require_field(config, f"data.{name}")
        *outer, last = name.split(".")
        block = config.data
        for part in outer:
            block = block[part]
        with block.ignore_type():  # a value of another type is told below
            block[last] = text if isinstance(block[last], str) else _value(text)
    checks.require("config.data", config.data, options.checks(dataset))
    return config.data


def _value(text: str) -> Any:
    """A number or a tuple; what is none stays text, which the field's check refuses."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    sys.exit(main())
