"""The import directions, no circles, and that the step needs no TensorFlow."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# What each package may import of the project; arrows run down only.
ALLOWED = {
    "core": set(),
    "configs": {"objectives", "input_pipeline"},
    "vl_models": {"core"},
    "input_pipeline": {"core"},
    "runtime": {"core"},
    "objectives": {"core", "input_pipeline", "vl_models"},
    "checkpoints": {"core", "input_pipeline", "runtime", "vl_models"},
    "evaluation": {"core", "input_pipeline", "objectives", "runtime"},
    "inference": {"core", "input_pipeline", "vl_models", "objectives", "runtime", "checkpoints",
                  "evaluation"},
    "training": {"core", "input_pipeline", "vl_models", "objectives", "runtime", "checkpoints",
                 "evaluation"},
    "main": {"configs", "core", "runtime", "training"},
}  # fmt: skip
FORBIDDEN = {
    "core": {"jax", "flax", "optax", "tensorflow"},
    "input_pipeline": {"jax", "flax", "optax"},
    "configs": {"jax", "numpy", "tensorflow"},
}
# Where options are declared, which configs take: without jax, numpy or data.
DECLARATIONS = (
    "objectives.options",
    "input_pipeline.datasets.options",
    "input_pipeline.streams.options",
)
# The rooms of input_pipeline, each with what it may import of the others.
ROOMS = {
    "regions": set(),
    "texts": set(),
    "pictures": {"regions"},
    "datasets": {"regions", "texts", "pictures"},
    "streams": {"regions", "texts", "pictures", "datasets"},
    "importers": {"regions", "texts", "datasets"},
    "beam": {"texts", "datasets", "importers"},
    "doctor": {"regions", "texts", "pictures", "datasets", "importers", "streams"},
}


def sources(package):
    module = ROOT / f"{package}.py"
    return [module] if module.is_file() else sorted((ROOT / package).rglob("*.py"))


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
    assert files
    for path in files:
        for name in imported(path):
            top = name.split(".")[0]
            assert top not in FORBIDDEN.get(package, ()), f"{path} imports {name}"
            if top in ALLOWED and top != package:
                assert top in ALLOWED[package], f"{path} imports {name}"


def test_configs_import_declarations_alone():
    for path in sources("configs"):
        for name in imported(path):
            if name.split(".")[0] in ALLOWED:
                assert name.startswith(("configs", *DECLARATIONS)), f"{path} imports {name}"
    for package in DECLARATIONS:
        files = sources(package.replace(".", "/"))
        assert files, package
        for path in files:
            for name in imported(path):
                top = name.split(".")[0]
                assert top not in ALLOWED or name.startswith(("core", package)), (path, name)


def test_configs_need_no_jax_numpy_or_tensorflow():
    names = [path.stem for path in sources("configs") if path.stem != "__init__"]
    code = (
        "import sys, importlib; sys.modules.update(jax=None, tensorflow=None)\n"
        f"[importlib.import_module('configs.' + name) for name in {names}]\n"
        "assert not {'input_pipeline.schema', 'objectives.base'} & set(sys.modules)\n"
        "print('ok')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_of_the_input_pipeline_run_one_way(room):
    for path in sources(f"input_pipeline/{room}"):
        for name in imported(path):
            top, *rest = name.split(".")
            if top == "input_pipeline" and rest[0] in ROOMS and rest[0] != room:
                assert rest[0] in ROOMS[room], f"{path} imports {name}"


def test_no_circles():
    files = {path for package in ALLOWED for path in sources(package)}

    def module_of(name):
        """The file that a dotted name is, or is in."""
        path = ROOT.joinpath(*name.split("."))
        for found in (path.with_suffix(".py"), path / "__init__.py"):
            if found in files:
                return found
        return module_of(name.rpartition(".")[0]) if "." in name else None

    graph = {path: {module_of(name) for name in imported(path)} & files - {path} for path in files}
    done = set()

    def visit(path, way):
        assert path not in way, " → ".join(str(p.relative_to(ROOT)) for p in [*way, path])
        if path not in done:
            for other in sorted(graph[path]):
                visit(other, [*way, path])
            done.add(path)

    for path in sorted(files):
        visit(path, [])


def test_step_models_and_objectives_need_no_tensorflow():
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"  # any import of it fails
        "import training.step, training.state, objectives.model, runtime.sharding\n"
        "import objectives, vl_models, configs.vlbert_pretrain\n"
        "[objectives.importlib.import_module(f'objectives.{n}') for n in objectives.known()]\n"
        "print('ok')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr


def test_no_drawer_modules():
    for package in ALLOWED:
        for path in sources(package):
            assert path.stem not in ("utils", "helpers", "misc"), path
