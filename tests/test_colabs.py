"""The notebooks in colabs/: stripped, of things that exist, and executed whole."""

import ast
import importlib
import importlib.util
import json
import os
import pathlib
import re
import shlex
import tomllib

import pytest

from inference.tasks import TaskModel

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
ids = dict(ids=lambda path: path.stem)


def cells(path, kind="code"):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [one for one in notebook["cells"] if one["cell_type"] == kind]


def sources(path, kind="code"):
    return ["".join(one["source"]) for one in cells(path, kind)]


def filled(node):
    """The text of a string, in which "x" stands for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value
    return "".join(one.value if isinstance(one, ast.Constant) else "x" for one in node.values)


def commands(path):
    """The words of each command that a notebook runs."""
    for source in sources(path):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "python":
                yield shlex.split(filled(node.args[0]))


def test_both_notebooks_are_here():
    assert [path.stem for path in NOTEBOOKS] == ["evaluate", "pretrain_and_finetune"]


@pytest.mark.parametrize("path", NOTEBOOKS, **ids)
def test_outputs_are_stripped_and_cells_are_named(path):
    for cell in cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert len({one["id"] for one in notebook["cells"]}) == len(notebook["cells"])
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


def test_the_first_cell_installs_the_project_from_one_variable():
    first, second = (sources(path)[0] for path in NOTEBOOKS)
    assert first == second
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    address = {name.lower(): url for name, url in project.get("urls", {}).items()}
    expected = address.get("repository") or address.get("source") or ".."
    assert f'PROJECT = "{expected}"' in first
    assert set(re.findall(r'"\[(\w+)\]"', first)) <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("path", NOTEBOOKS, **ids)
def test_what_is_imported_exists(path):
    found = set()
    for source in sources(path):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}:{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in (
                "model",
                "photos",
            ):
                assert hasattr(TaskModel, node.attr), node.attr
    assert "inference:load" in found
    for name in found:
        module, _, attribute = name.partition(":")
        assert not attribute or hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize("path", NOTEBOOKS, **ids)
def test_commands_name_programs_configs_and_fields_that_exist(path):
    found = list(commands(path))
    assert len(found) > 3
    for program, *words in found:
        if program == "-m":
            assert importlib.util.find_spec(words[0]), words[0]
            continue
        assert (ROOT / program).is_file()
        given = [word for word in words if word.startswith("--config=")]
        if not given:
            continue
        file, _, argument = given[0].removeprefix("--config=").partition(":")
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        config = module.get_config(argument) if argument else module.get_config()
        for word in words:
            name = word.partition("=")[0]
            if name.startswith("--config."):
                value = config
                for part in name.removeprefix("--config.").split("."):
                    assert part in value, word
                    value = value[part]


@pytest.mark.parametrize("path", NOTEBOOKS, **ids)
def test_files_that_the_text_names_exist(path):
    text = "\n".join(sources(path, "markdown"))
    named = re.findall(r"`((?:docs|configs|colabs|scripts)/[\w/.]+)", text)
    assert named
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, **ids)
def test_a_notebook_runs_whole(path, tmp_path, monkeypatch):
    """From the repository's own files, a few steps on a few scenes."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("VL_NOTEBOOK_TEST", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    runs = (ROOT / "runs").exists()
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=1200,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env=dict(os.environ))
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    told = "".join(one["text"] for one in outputs if one["output_type"] == "stream")
    shown = [one["data"].get("text/html", "") for one in outputs if "data" in one]
    assert "(prior " in told  # accuracies beside what guessing reaches
    assert "it can:" in told or "vqa_accuracy" in told
    assert any("<svg" in text for text in shown)  # a result with its picture
    assert any("srcdoc=" in text for text in shown)  # a page
    assert len(list(tmp_path.rglob("report/predict-validation.html"))) == 1
    assert (ROOT / "runs").exists() == runs  # all is written where it should be
