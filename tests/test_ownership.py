"""What is known of one kind of objective, or of one data set, is in the room that owns it.

Code elsewhere asks the objective or the data set, so that a new one is an addition in one place.
"""

import ast
import pathlib
import re

import pytest

import input_pipeline.datasets
import objectives

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("core", "vl_models", "input_pipeline", "runtime", "objectives", "checkpoints",
            "evaluation", "training", "inference")  # fmt: skip
KINDS = set(objectives.known())
DATASETS = set(input_pipeline.datasets.known())
# {what: (its names, modules that import them, rooms that own them)}.
OWNED = {
    "objectives": (KINDS, "objectives", ("objectives",)),
    "data sets": (DATASETS, "input_pipeline.datasets", ("input_pipeline/datasets",)),
}
# Published heads have the names that their models' makers gave them; a submission has the format of
# its data set.
EXCEPTED = ("vl_models/published/", "evaluation/submissions/")
# Keys of a prediction, which is JSON for people: `row["choice"]`.
ROWS = {"prediction", "row"}


def code_of(rooms):
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if not name.startswith((*EXCEPTED, *(f"{room}/" for room in rooms))):
                yield name, ast.parse(path.read_text())


def texts_of(tree):
    """String constants that are neither docstrings nor keys of a prediction: (line, text)."""
    left_out = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            left_out.add(id(body[0].value))
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id in ROWS
        ):
            left_out.add(id(node.slice))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in left_out
        ):
            yield node.lineno, node.value


def named(text: str, names: set[str]) -> set[str]:
    """Names that a text is, or that are segments of a path in it."""
    if text in names:
        return {text}
    found = set()
    for path in re.findall(r"\w+(?:[/.]\w+)+", text):
        first, *segments = re.split(r"[/.]", path)
        if first in ("heads", "config", "objectives", "evals", "streams", "input_pipeline"):
            found |= names & set(segments)
    return found


def imports_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("what", sorted(OWNED))
def test_names_are_known_in_the_room_that_owns_them(what):
    names, package, rooms = OWNED[what]
    assert names
    found = []
    for path, tree in code_of(rooms):
        found += [f"{path}:{line}: {text!r}" for line, text in texts_of(tree) if named(text, names)]
        for line, module in imports_of(tree):
            if module.startswith(f"{package}."):
                first = module.removeprefix(f"{package}.").split(".")[0]
                if first in names:
                    found.append(f"{path}:{line}: imports {module}")
    assert not found, "\n" + "\n".join(found)


def test_what_counts_as_a_name():
    assert named("vqa", {"vqa"}) == {"vqa"}
    assert named("heads/vqa/kernel", {"vqa"}) == {"vqa"}
    assert named("set config.objectives.choice.choices to 4", {"choice"}) == {"choice"}
    assert not named("such as data=vqa", {"vqa"})
    assert not named("a choice of many", {"choice"})
