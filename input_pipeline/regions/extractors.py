"""Extractors by name: files of `PACKAGE`, each with a class `Extractor`, and classes of one's own.

They are imported when they are asked for: nothing here depends on what they need.
"""

import functools
import importlib
import importlib.util
import inspect
import json
import pathlib
from collections.abc import Callable

from core.errors import DataError, ForeignError, UserError
from input_pipeline.regions.extract import Extractor

PACKAGE = "inference.extractors"


def known() -> dict[str, str]:
    """{short name: first line of its file's docstring}, sorted; imports none of them."""
    package = importlib.util.find_spec(PACKAGE)
    found = {}
    for folder in package.submodule_search_locations if package else ():
        for path in pathlib.Path(folder).glob("*.py"):
            text = path.read_text(encoding="utf-8")
            if "\nclass Extractor" in text:
                found[path.stem] = text.removeprefix('"""').partition("\n")[0]
    return dict(sorted(found.items()))


def _class_of(name: str) -> Callable[..., Extractor]:
    """The class of an extractor's name; raises DataError where there is none."""
    module, colon, attribute = name.partition(":")
    if not colon and module in known():
        module, attribute = f"{PACKAGE}.{module}", "Extractor"
    try:
        if not (module and attribute):
            raise ValueError(f"no short name and no module:Class: {name!r}")
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        missing = getattr(error, "name", None) or ""
        in_it = isinstance(error, ModuleNotFoundError) and not module.startswith(missing)
        raise DataError(
            "a package that an extractor needs is not installed"
            if in_it
            else "an extractor cannot be found",
            where=f"--extractor={name}",
            expected=f"the package {missing!r}"
            if in_it
            else f"one of {list(known())}, or module:Class, both of which exist",
            found=f"{type(error).__name__}: {error}",
            fix=f"pip install {missing.partition('.')[0]} (the extractor's file says what it needs)"
            if in_it
            else "check the spelling, the working folder, and that its packages are installed",
        ) from error


@functools.lru_cache(maxsize=1)  # a model is loaded once per process, however often it is asked for
def load(name: str, options: str = "") -> Extractor:
    """The extractor of a name.

    Args:
      name: one of `known()`, or "module:Class": a module as Python would import it (from the
        working folder, too), and its class.
      options: JSON object of the class's keyword arguments; empty: none.

    Raises:
      DataError: no such class, malformed options, or attributes that make no feature spec.
    """
    made = _class_of(name)
    try:
        arguments = json.loads(options or "{}")
        if not isinstance(arguments, dict):
            raise ValueError(f"{type(arguments).__name__}")
        inspect.signature(made).bind(**arguments)
    except (ValueError, TypeError) as error:
        raise DataError(
            "wrong options of an extractor",
            where=f"--extractor_options={options}",
            expected=f"a JSON object of arguments of {name}{inspect.signature(made)}",
            found=str(error),
        ) from error
    try:
        extractor = made(**arguments)
    except UserError:
        raise
    except Exception as error:
        raise ForeignError(f"extractor {name} cannot be made: {error!r}") from error
    rules = {
        "name": lambda v: isinstance(v, str) and v != "",
        "feature_dim": lambda v: isinstance(v, int) and v >= 1,
        "num_classes": lambda v: isinstance(v, int) and v >= 0,
        "background_class": lambda v: v is None or 0 <= v < extractor.num_classes,
        "global_feature": lambda v: v in ("mean", "stored"),
        "class_names": lambda v: v is None or len(v) in (0, extractor.num_classes),
        "most_workers": lambda v: v is None or (isinstance(v, int) and v >= 1),
    }
    if hasattr(extractor, "batch"):
        rules["batch_size"] = lambda v: isinstance(v, int) and v >= 1
        rules["canvas"] = callable
    optional = ("class_names", "most_workers")
    for field, holds in rules.items():
        value = getattr(extractor, field, None if field in optional else "no such attribute")
        if value == "no such attribute" or not holds(value):
            raise DataError(
                f"the attribute {field!r} of an extractor makes no feature spec",
                where=f"--extractor={name}",
                expected="the attributes that input_pipeline.regions.extract.Extractor lists",
                found=repr(value),
            )
    return extractor
