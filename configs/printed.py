"""What the configs are and what their fields mean, as text for people.

The documentation of a field is the comment at its declaration; it is read from the source.
"""

import ast
import functools
import importlib
import inspect
import io
import itertools
import pathlib
import pkgutil
import re
import shlex
import textwrap
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

import configs
from configs import common, models
from input_pipeline.datasets import options as datasets
from input_pipeline.datasets.options import shared
from input_pipeline.streams import options as streams
from objectives import options as objectives

WIDTH = 100
# Where each block is declared, for --help.
DECLARED = {
    "": "configs/common.py: steps, checkpoints, mesh, seed, init",
    "model.": "configs/models.py, by model and size",
    "data.": "input_pipeline/datasets/options/: shared.py, and a file of the data set's name",
    "streams.<name>.": "input_pipeline/streams/options.py: batch, lengths, order of the regions",
    "objectives.<name>.": "objectives/options/, a file of the kind's name",
    "optimizer.": "configs/common.py",
    "evals.<name>.": "the config's own file",
}

Path = tuple[str, ...]


def known() -> dict[str, ModuleType]:
    """{path of a config's file: its module}; the files of this folder that have `get_config`."""
    folder = pathlib.Path(*configs.__path__)
    modules = [
        importlib.import_module(f"configs.{found.name}")
        for found in pkgutil.iter_modules(configs.__path__)
    ]
    return {
        f"{folder.name}/{module.__name__.rpartition('.')[2]}.py": module
        for module in modules
        if hasattr(module, "get_config")
    }


def overview() -> str:
    """The configs with their arguments, and where the fields are declared."""
    lines = ["configs, each with its arguments after a colon (first value: the default):", ""]
    for path, module in known().items():
        title = inspect.getdoc(module).splitlines()[0]
        arguments = "  ".join(
            f"{name}={_choices(given)}" for name, given in module.ARGUMENTS.items()
        )
        lines.append(f"  {path}  {title}")
        lines += textwrap.wrap(
            arguments,
            WIDTH,
            initial_indent=" " * 6,
            subsequent_indent=" " * 6,
            break_long_words=False,
        )
    lines += ["", "fields, each set with --config.FIELD=VALUE:", ""]
    width = max(map(len, DECLARED)) + len("--config.FIELD")
    lines += [f"  {f'--config.{block}FIELD':{width}}  {where}" for block, where in DECLARED.items()]
    return "\n".join(lines)


def commented(config: Mapping[str, Any], title: str) -> str:
    """A whole config, a line for each field as the command line takes it, with its comment.

    Args:
      config: as `get_config` gives it.
      title: where it comes from.
    """
    lines = [f"# {title}"]
    for block, leaves in itertools.groupby(_leaves(config), lambda leaf: leaf[0][:-1]):
        lines.append("")
        found = list(leaves)
        if block[-1:] == ("data",) and len(block) == 3:
            lines.append(f"# --config.{'.'.join(block)}.*: as --config.data.*, where not given")
        elif block:
            lines += _wrapped(_comment(config, block))
        for path, value in found:
            if not _follows(config, path, value):
                lines += _line(path, value, _comment(config, path))
    return "\n".join(lines)


def _choices(given: Any) -> str:
    """The values of an argument, the default first."""
    if not isinstance(given, tuple):
        return f"{str(given).lower()}|…"
    default, values = given
    return "|".join(
        str(value) for value in (default, *(v for v in values if v != default)) if value != ""
    )


def _leaves(block: Mapping[str, Any], before: Path = ()) -> Iterator[tuple[Path, Any]]:
    """(path, value) of all fields: a block's own, then those of the blocks in it."""
    inner = []
    for name, value in block.items():
        if hasattr(value, "items"):
            inner.append((name, value))
        else:
            yield (*before, name), value
    for name, value in inner:
        yield from _leaves(value, (*before, name))


def _follows(config: Mapping[str, Any], path: Path, value: Any) -> bool:
    """Whether it is a field of a stream's data with the value of the same one of `config.data`."""
    if path[:1] != ("streams",) or path[2:3] != ("data",):
        return False
    other: Any = config["data"]
    for name in path[3:]:
        if not hasattr(other, "items") or name not in other:
            return False
        other = other[name]
    return bool(other == value)


def _line(path: Path, value: Any, comment: str) -> list[str]:
    flag = f"--config.{'.'.join(path)}={_quoted(value)}"
    if comment and len(flag) + len(comment) + 4 <= WIDTH:
        return [f"{flag}  # {comment}"]
    return [*_wrapped(comment), flag]


def _quoted(value: Any) -> str:
    """A value as a shell passes it on to `--config.FIELD=`."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, tuple) and not set(text) & set('"$`\\!'):
        return f'"{text}"'
    return shlex.quote(text) if text else ""


def _wrapped(comment: str) -> list[str]:
    return textwrap.wrap(comment, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _comment(config: Mapping[str, Any], path: Path) -> str:
    """The comment at a field's declaration, "" without one."""
    block, depth = _declarations(config, path)
    for declared in block:
        found = _comments(declared)
        wanted = path[depth:]
        # A declaration may stand deeper in its file than in the config: {"mini": {field}}.
        for key, comment in found.items():
            if key[-len(wanted) :] == wanted:
                return comment
    return ""


def _declarations(
    config: Mapping[str, Any], path: Path
) -> tuple[Sequence[ModuleType | FunctionType], int]:
    """(where a field is declared, length of the path of its block)."""
    match path:
        case ("model", _, *_):
            return (models,), 1
        case ("optimizer", _, *_):
            return (common.optimizer_block,), 1
        case ("data", _, *_):
            return _data(config["data"]["dataset"]), 1
        case ("streams", name, "data", _, *_):
            return _data(config["streams"][name]["data"]["dataset"]), 3
        case ("streams", _, _, *_):
            return (streams,), 2
        case ("objectives", name, _, *_):
            kind = objectives.kind_of(name, config["objectives"][name])
            return (objectives, importlib.import_module(f"{objectives.__name__}.{kind}")), 2
        case ("evals", _, _, *_):
            return (common, *known().values()), 1
    return (common.run_block,), 0


def _data(dataset: str) -> Sequence[ModuleType]:
    if dataset in datasets.known():
        return importlib.import_module(f"{datasets.__name__}.{dataset}"), shared
    return (shared,)


@functools.cache
def _comments(declared: ModuleType | FunctionType) -> dict[Path, str]:
    """{path of a key within the dicts of a source: comment beside it or above it}."""
    source = textwrap.dedent(inspect.getsource(declared))
    code, alone = {}, {}  # {line: comment} of lines with code and without
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            kind = code if token.line[: token.start[1]].strip() else alone
            kind[token.start[0]] = re.sub(r"^#\s*", "", token.string)
    lines = source.splitlines()
    found: dict[Path, str] = {}

    def visit(node: ast.AST, before: Path) -> None:
        keys = []
        if isinstance(node, ast.Call):
            keys = [(k.arg, k, k.value) for k in node.keywords if k.arg]
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            keys = [
                (k.value, k, v)
                for k, v in pairs
                if isinstance(k, ast.Constant) and isinstance(k.value, str)
            ]
        values = set()
        for name, place, value in keys:
            line, path = place.lineno, (*before, name)
            if not lines[line - 1][: place.col_offset].strip():  # it begins its line
                above = list(itertools.takewhile(alone.__contains__, itertools.count(line - 1, -1)))
                text = [*(alone[number] for number in reversed(above)), code.get(line, "")]
                if comment := " ".join(filter(None, text)):
                    found.setdefault(path, comment)
            visit(value, path)
            values.add(value)
        for child in ast.iter_child_nodes(node):
            if child not in values and not isinstance(child, ast.keyword):
                visit(child, ())
            elif isinstance(child, ast.keyword) and child.value not in values:
                visit(child.value, ())

    visit(ast.parse(source), ())
    return found
