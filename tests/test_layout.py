"""The import directions, and that the step needs no TensorFlow."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("configs", "inference", "input_pipeline", "objectives", "training", "vl_models")

# What each package may import of the project. A dotted name allows that module alone.
ALLOWED = {
    "configs": {"configs"},
    "input_pipeline": {"input_pipeline"},
    "vl_models": {"vl_models"},
    "objectives": {"objectives", "vl_models.heads", "vl_models.layers", "input_pipeline.schema"},
    "training": {"training", "objectives", "input_pipeline", "vl_models"},
    "inference": {"inference", "training", "objectives", "input_pipeline", "vl_models"},
    "main": {"training"},
}
FORBIDDEN = {"input_pipeline": {"jax", "flax", "optax"}, "configs": {"jax", "numpy", "tensorflow"}}


def sources(package):
    if package == "main":
        return [ROOT / "main.py"]
    return sorted((ROOT / package).rglob("*.py"))


def imported(path):
    """Dotted names a file imports; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_run_one_way(package):
    files = sources(package)
    assert files or package == "inference"
    for path in files:
        for name in imported(path):
            top = name.split(".")[0]
            assert top not in FORBIDDEN.get(package, ()), f"{path} imports {name}"
            if top in PACKAGES or top == "main":
                allowed = any(name == a or name.startswith(a + ".") for a in ALLOWED[package])
                assert allowed, f"{path} imports {name}"


def test_step_models_and_objectives_need_no_tensorflow():
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"  # any import of it fails
        "import training.step, training.state, training.multitask, training.sharding\n"
        "import objectives, vl_models, configs.vlbert_pretrain\n"
        "[objectives.importlib.import_module(f'objectives.{n}') for n in objectives.known()]\n"
        "print('ok')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr


def test_no_drawer_modules():
    for package in PACKAGES:
        for path in sources(package):
            assert path.stem not in ("utils", "helpers", "misc"), path
