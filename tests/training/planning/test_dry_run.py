"""What a dry run tells, against sums worked out by hand; and as a user runs it."""

import dataclasses
import importlib
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from configs import vilbert_pretrain, vlbert_pretrain
from core.errors import ConfigError
from input_pipeline.schema import FIELDS
from runtime import sharding
from tests.test_configs import EXTRA
from tests.training.planning.plans import again, small
from training import loop, setup
from training.planning import assumed, dry_run, dry_run_table, step_program, topology
from training.state import StateMaker

ROOT = pathlib.Path(__file__).parents[3]


def test_a_dry_run_returns_what_it_writes(told):
    result, written = told
    assert written == json.loads(json.dumps(result))
    assert written["mesh"] == dict(data=2, fsdp=2, tensor=2)
    assert (written["devices"], written["hosts"], written["platform"]) == (8, 1, "cpu")
    assert written["batch_sizes"] == dict(captions=16)


def test_memory_is_that_of_one_device(told):
    result, _ = told
    memory = result["memory"]
    # The word table is split over all axes, and is most of the parameters.
    table = 30522 * 16 * 4
    assert table / 8 < memory["parameters"] < 4 * result["parameters"] / 2
    moments = memory["optimizer_state"] - 2 * memory["parameters"]
    assert 0 <= moments < 100  # two moments each, and counters
    # 4 rows of the 16 on a device: 6 regions of 2048 bfloat16, and little else.
    assert memory["batch"] == pytest.approx(4 * 6 * 2048 * 2, rel=0.05)
    held = memory["parameters"] + memory["optimizer_state"] + memory["batch"]
    assert memory["total"] > held + memory["temporaries"] > held
    assert memory["fits"] is None


def test_exchanges_and_operations_are_told(told):
    result, _ = told
    axes = {row["axes"] for row in result["collectives"]}
    assert {"tensor", "data·fsdp"} <= axes
    assert all(row["count"] > 0 and row["bytes"] > 0 for row in result["collectives"])
    # XLA counts element-wise work, too, and here the padding of what it splits.
    assert 0.5 < result["flops"]["xla"] / result["flops"]["model"] < 4
    assert result["step"] is None
    assert result["input"]["bytes_per_second"] is None


def test_gpus_are_planned_for_by_their_data_sheets(compiled_before, tmp_path, monkeypatch):
    result = loop.run(again(topology="h100:8"), tmp_path, "dry_run")
    memory, step = result["memory"], result["step"]
    assert (memory["available"], memory["fits"]) == (60 * 10**9, True)  # JAX takes 75 %
    assert result["device_kind"] == "H100 by its data sheet"
    moved = memory["total"] + memory["temporaries"]
    assert step["roofline"]["memory"] == pytest.approx(moved / 3.35e12, rel=0.5)
    assert step["roofline"]["exchanges"] > 0
    assert step["xla"] is None
    text = dry_run_table.table(result)
    assert "8 x H100 by its data sheet on 1 host(s)" in text
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    assert topology.find("a100-40:8").memory == 36 * 10**9
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "90")
    with pytest.raises(ConfigError, match=r"MEM_FRACTION\n.*at most 1\n.*90"):
        topology.find("a100-40:8")


def test_a_program_without_its_text_is_told_without_exchanges(
    compiled_before, compiled, tmp_path, monkeypatch
):
    def as_text(self):
        raise jax.errors.JaxRuntimeError("INTERNAL: it is too large\nand more")

    monkeypatch.setattr(type(compiled[0][0]), "as_text", as_text)
    gpus = topology.find("h100:8")
    monkeypatch.setattr(topology, "find", lambda name: dataclasses.replace(gpus, name="v6e:2x4"))
    result = loop.run(again(topology="v6e:2x4"), tmp_path, "dry_run")
    assert result["collectives"] is None
    assert result["step"]["roofline"]["exchanges"] is None
    assert result["memory"]["total"] > 0
    lines = dry_run_table.table(result).splitlines()
    (line,) = [line for line in lines if line.startswith("collectives")]
    assert "jaxlib cannot read the compiled program: INTERNAL: it is too large (jax" in line
    assert line.endswith(f"goes with {topology.LIBTPU})")
    assert "without exchanges; not measured" in next(x for x in lines if x.startswith("step "))


def test_what_cannot_even_hold_its_state_is_not_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(step_program, "compile_step", lambda *_, **__: pytest.fail("compiled"))
    small_gpu = dataclasses.replace(topology.find("cpu:8"), memory=10**6)
    monkeypatch.setattr(topology, "find", lambda name: small_gpu)
    result = loop.run(again(), tmp_path, "dry_run")
    assert result["memory"]["fits"] is False
    assert "not known: not compiled" in dry_run_table.table(result)


def test_the_table_is_for_people(told):
    text = dry_run_table.table(told[0])
    sizes = (512, 999.9 * 2**20, 16 * 2**30)
    assert [dry_run_table.size_text(n) for n in sizes] == ["512 B", "0.98 GiB", "16.00 GiB"]
    assert "the devices' memory is not known" in text
    assert "features of 2048 x bfloat16" in text
    assert "all-gather" in text
    full = dict(told[0], memory=told[0]["memory"] | dict(total=20 * 2**30, available=16 * 2**30))
    assert "fits" not in dry_run_table.table(full)
    full["memory"]["fits"] = False
    assert "20.00 GiB DOES NOT FIT 16.00 GiB" in dry_run_table.table(full)
    full["memory"]["fits"], full["buckets"] = True, True
    assert "fits: 125%" in dry_run_table.table(full)
    assert "length buckets make most of them smaller" in dry_run_table.table(full)


class TooLarge:
    """A lowered step that XLA refuses."""

    def __init__(self, text):
        self.text = text

    def lower(self, *args):
        return self

    def compile(self, compiler_options=None):
        raise jax.errors.JaxRuntimeError(self.text)


def test_a_step_too_large_for_its_devices_is_a_verdict_and_no_crash(monkeypatch):
    config = small(vilbert_pretrain)
    task = assumed.model(config)
    batch = assumed.batch(config, task, setup.assemblers(config))
    mesh = sharding.make_mesh(config.mesh)
    maker = StateMaker(task, config, batch, mesh)
    text = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 21.50G of 15.75G hbm. "
        "Exceeded hbm capacity by 5.75G."
    )
    monkeypatch.setattr(step_program, "make_train_step", lambda *args, **options: TooLarge(text))
    compiled, used = step_program.compile_step(config, task, maker, mesh, batch)
    assert (compiled, used) == (None, round(21.5 * 2**30))
    memory = step_program.memory_of(None, used, maker, sharding.shapes_of(batch, mesh), 16 * 2**30)
    assert (memory["fits"], memory["total"]) == (False, used)
    monkeypatch.setattr(
        step_program, "make_train_step", lambda *args, **options: TooLarge("INTERNAL")
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        step_program.compile_step(config, task, maker, mesh, batch)


def test_what_training_would_refuse_is_refused(tmp_path):
    config = small(vlbert_pretrain)
    config.streams.captions.batch_size = 18
    with pytest.raises(ConfigError, match="a multiple of 4 = "):
        loop.run(config, tmp_path, "dry_run")
    config = small(vlbert_pretrain, mfu=1.5)
    with pytest.raises(ConfigError, match=r"(?s)config\.dry_run\.mfu.*at most 1.*1\.5"):
        loop.run(config, tmp_path, "dry_run")
    config = small(vlbert_pretrain)
    config.evals.validation.batch_size = 6
    with pytest.raises(ConfigError, match=r"config\.evals\.validation"):
        loop.run(config, tmp_path, "dry_run")


@pytest.mark.parametrize(
    "name", ["v5e", "cpu:", "v9:2x2", "v5e:2x2x2", "v5p:4x4", "cpu:2x2", "p100:8", "h100:2x4"]
)
def test_unknown_topologies_are_refused_naming_the_known(name):
    with pytest.raises(ConfigError, match=r"cpu:N, v4:AxBxC, v5e:AxB.*found '" + name):
        topology.find(name)


def test_devices_that_cannot_be_had_are_refused_saying_how(monkeypatch):
    with pytest.raises(ConfigError, match=r"started with 8 CPU devices.*\n.*JAX_NUM_CPU_DEVICES=9"):
        topology.find("cpu:9")
    assert len(topology.find("cpu:4").devices) == 4
    assert topology.find("").devices == jax.devices()
    with pytest.raises(ConfigError, match=r"(?s)multiple of 8.*'h100:12'.*topology=h100:16"):
        topology.find("h100:12")
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install .libtpu=="):
        topology.find("v5e:4x4")


ARGUMENTS = [
    (file, argument)
    for file, found in sorted(EXTRA.items())
    for argument in found
    if "preset" not in argument  # these are schedules
]


@pytest.mark.parametrize(("file", "argument"), ARGUMENTS)
def test_assumed_batches_have_what_every_task_reads(file, argument):
    """Parameters, corruption and losses of every config, on shapes alone."""
    config = importlib.import_module(f"configs.{file}").get_config(argument or None)
    task = assumed.model(config)
    batch = assumed.batch(config, task, setup.assemblers(config))
    stream = next(iter(batch))

    def losses(rng, batch):
        rows = jax.tree.map(lambda x: x[:2], batch)
        params = task.init(rng, rows)
        keys = jax.random.split(rng, len(rows[stream]["_weight"]))
        arrays = task.corrupt(stream, rows[stream], keys)
        return task.sums(params, stream, arrays, train=False)[0], task.weights(stream, arrays)

    sums, weights = jax.eval_shape(losses, jax.random.key(0), batch)
    assert set(sums) == set(weights) == {f"{stream}/{x.name}" for x in task.streams[stream]}
    assert all(x.shape == () for x in sums.values())


# Of keys that only some data sets have: words that the image tells, or that mention a region;
# boxes that may be chosen.
OPTIONAL = {"probe_kind", "phrase_region", "token_region", "candidate_mask"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "argument"),
    [
        ("vlbert_pretrain", ""),
        ("vilbert_pretrain", ""),
        ("vqa", ""),
        ("vcr", ""),
        ("refcoco", ""),
        ("nlvr2", ""),
        ("retrieval", ""),
    ],
)
def test_assumed_batches_are_those_of_the_embedded_data(file, argument, tmp_path_factory):
    config = importlib.import_module(f"configs.{file}").get_config(argument or None)
    config.data.dir = str(tmp_path_factory.getbasetemp() / "scenes_of_dry_run")
    config.data.scenes.update(train=64, validation=24, test=8)
    config.data.vocab_size = 600
    config.data.answer_count = 1
    mesh = sharding.make_mesh(dict(data=1, fsdp=1, tensor=1), jax.devices()[:1])
    real = setup.build(config, mesh).example
    task = assumed.model(config)
    made = assumed.batch(config, task, setup.assemblers(config))
    assert set(made) == set(real)
    for stream, arrays in made.items():
        assert set(real[stream]) - set(arrays) <= OPTIONAL
        assert set(arrays) <= set(real[stream])
        for key, x in arrays.items():
            found = real[stream][key]
            axes = FIELDS[key].axes.split()
            same = [i for i, axis in enumerate(axes) if axis not in "FkA"]  # these are the data's
            assert [x.shape[i] for i in same] == [found.shape[i] for i in same], key
            assert key == "regions" or x.dtype == found.dtype, key


@pytest.mark.slow
def test_a_dry_run_as_a_process_makes_its_own_devices(tmp_path):
    command = [
        sys.executable, "main.py", "--config=configs/vilbert_pretrain.py", "--mode=dry_run",
        f"--workdir={tmp_path / 'run'}", "--config.dry_run.topology=cpu:8",
        "--config.dry_run.assume=true", "--config.mesh.data=2", "--config.mesh.fsdp=4",
        "--config.model.layers=1", "--config.model.connect.text_at=(0,)",
        "--config.model.connect.image_at=(0,)", "--config.model.image.layers=1",
    ]  # fmt: skip
    hidden = ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert "8 x cpu on 1 host(s); data 2, fsdp 4, tensor 1" in done.stdout
    written = json.loads((tmp_path / "run" / dry_run.FILE).read_text())
    assert written["devices"] == 8
    assert not (tmp_path / "run" / "checkpoints").exists()
    command[5] = "--config.dry_run.topology=cpu-8"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: config.dry_run.topology must be one of cpu:N")
