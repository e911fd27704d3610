"""An exported task runs without this project, and gives the same numbers."""

import importlib.util
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.errors import ConfigError, DataError
from inference import __main__ as command
from inference.export import __main__ as export_command
from inference.export import artifact, task
from inference.layout import Example
from tests.inference import made_models

IMAGES = ("6", "7", "8")
ALONE = """
import sys
for name in "vl_models objectives inference input_pipeline core flax tensorflow".split():
    sys.modules[name] = None  # any import of it fails
sys.path.insert(0, sys.argv[1])
from load import Program
from safetensors.numpy import load_file, save_file
save_file(Program(sys.argv[1])(load_file(sys.argv[2])), sys.argv[3])
"""
# {verb: run that can}.
MADE = {
    "fill_mask": ("vilbert_pretrain", "data=jsonl,size=mini"),
    "answer": ("vqa", "data=jsonl,model={model}"),
    "choose": ("vcr", "model={model}"),
    "ground": ("refcoco", "data=jsonl,model={model}"),
    "point": ("pointing", "model={model}"),
    "classify": ("nlvr2", "model={model}"),
    "align": ("vilbert_pretrain", "data=jsonl,size=mini"),
    "rank": ("retrieval", "model={model}"),
    "embed": ("vqa", "data=jsonl,model={model}"),
}


def loader(folder):
    """The program of a folder, by its own loader."""
    spec = importlib.util.spec_from_file_location("load", folder / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Program(folder)


def questions_of(model, verb="answer"):
    """Batch of questions on three images, as the model reads them."""
    stream, program = model.program(verb)
    asked = model._asked(stream, "what colour is the cube?", list(IMAGES), made_models.caption)
    assert all(isinstance(one, Example) for one in asked.examples)
    return program, program.layout.batch(asked.examples, 4)


def test_it_runs_without_the_project_and_gives_the_same_numbers(tmp_path, monkeypatch, capsys):
    model = made_models.run("vqa", "data=jsonl,model=vilbert").shared
    folder = tmp_path / "exported"
    monkeypatch.setattr(export_command, "load", lambda place, **_: model)
    argv = ["RUN", "export", f"--out={folder}", "--batch_sizes=4", "--platforms=cpu"]
    assert command.main(argv) == 0
    assert "answer of examples" in capsys.readouterr().out
    config = json.loads((folder / "config.json").read_text())
    program, batch = questions_of(model)
    expected = {name: array[:3] for name, array in model.run(program, batch).items()}
    # Three of four rows: the loader pads them.
    inputs = {name: task.plain(batch[name][:3]) for name in config["inputs"]}
    save_file(inputs, tmp_path / "inputs.safetensors")
    paths = (folder, tmp_path / "inputs.safetensors", tmp_path / "outputs.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, paths)], cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    found = load_file(paths[2])
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name
    assert config["names"] == list(
        made_models.run("vqa", "data=jsonl,model=vilbert").source.answers
    )
    assert set(config["inputs"]) < set(batch)
    assert config["regions"]["feature_spec"] == made_models.SPEC.to_dict()
    assert (folder / "vocab.txt").read_text().split("\n")[:-1] == list(model.pieces)
    assert "`regions`" in (folder / "README.md").read_text()


# Every verb, and every model with half of them: a case compiles four programs.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "model"), zip(task.KNOWN, itertools.cycle(made_models.MODELS), strict=False)
)
def test_every_verb_gives_the_same_numbers_for_its_example(verb, model, tmp_path):
    name, argument = MADE[verb]
    made = made_models.run(name, argument.format(model=model)).shared
    artifact.write(made, str(tmp_path / "x"), verb, batch_sizes=(1, 4), platforms=("cpu", "tpu"))
    program, example = loader(tmp_path / "x"), load_file(tmp_path / "x" / "example.safetensors")
    inputs = {key.partition("/")[2]: array for key, array in example.items() if key[:3] == "inp"}
    for found in (program(inputs), program({k: np.repeat(v, 6, 0) for k, v in inputs.items()})):
        for key, array in found.items():
            np.testing.assert_allclose(array[:1], example[f"outputs/{key}"], atol=1e-5, rtol=1e-5)
    exact = program(inputs)
    assert all(np.array_equal(exact[key], example[f"outputs/{key}"]) for key in exact)
    assert (tmp_path / "x" / "tpu-4.jaxexport").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("model", made_models.MODELS)
@pytest.mark.parametrize("verb", task.KNOWN)
def test_onnx_models_give_the_same_within_rounding(verb, model):
    pytest.importorskip("jax2onnx", reason="pip install -e '.[onnx]'")
    runtime = pytest.importorskip("onnxruntime", reason="pip install -e '.[onnx]'")
    name, argument = MADE[verb]
    made = made_models.run(name, argument.format(model=model)).shared
    exported = task.Task(made, verb)
    batch = exported.batch(2)
    session = runtime.InferenceSession(exported.onnx(2), providers=["CPUExecutionProvider"])
    inputs = {name: task.plain(batch[name]) for name in exported.inputs}
    expected = made.run(exported.program, batch)
    names = [one.name.removeprefix("output_") for one in session.get_outputs()]
    found = dict(zip(names, session.run(None, inputs), strict=True))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name][0], array[0], atol=1e-4, rtol=1e-4)


def test_what_cannot_be_exported_is_told_and_nothing_is_left(tmp_path):
    model = made_models.run("vqa", "data=jsonl,model=vilbert").shared
    for options, message in (
        (dict(verb="ground"), "cannot ground"),
        (dict(verb="attention"), "cannot be exported"),
        (dict(platforms=("rocm",)), "unknown platforms"),
        (dict(batch_sizes=()), "no sizes"),
    ):
        with pytest.raises(ConfigError, match=message):
            artifact.write(model, str(tmp_path / "x"), **options)
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="exists"):
        artifact.write(model, str(tmp_path / "there"), batch_sizes=(1,), platforms=("cpu",))
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
