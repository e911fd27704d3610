"""Plans of several batches and meshes; the compiled step is one that was compiled before."""

import dataclasses
import json

import pytest

from core.errors import ConfigError, UserError
from tests.training.planning.plans import again
from training import loop
from training.planning import dry_run, step_program, sweep, sweep_table, topology

MESHES = ((8, 1, 1), (1, 8, 1))


def swept(folder, **dry):
    return loop.run(
        again(**{"topology": "h100:8", "sweep": "batch,mesh", **dry}), folder, "dry_run"
    )


def test_the_fastest_plan_that_fits_is_named(compiled_before, tmp_path, capsys):
    result = swept(tmp_path, batches=(1, 2), meshes=MESHES[:1])
    assert json.loads((tmp_path / dry_run.FILE).read_text()) == json.loads(json.dumps(result))
    plans = result["plans"]
    assert [(plan["mesh"]["data"], plan["batch_sizes"]["captions"]) for plan in plans] == [
        (8, 16), (8, 32),
    ]  # fmt: skip
    assert result["examples"] == again().total_steps * 16
    for plan in plans:  # all of them do the same work
        rate = plan["step"]["expected"]["examples_per_second"]
        assert plan["hours"] == pytest.approx(result["examples"] / rate / 3600)
        assert plan["device_hours"] == pytest.approx(8 * plan["hours"])
    fastest = plans[result["fastest"]]
    assert fastest["hours"] == min(plan["hours"] for plan in plans)
    assert fastest["batch_sizes"] == dict(captions=32)  # the program, and its time, are the same
    out = capsys.readouterr().out
    assert "plan 1 of 2: data 8, fsdp 1, tensor 1, 16 captions: " in out
    assert out.count("fastest that fits") == 2
    (flags,) = [line for line in out.splitlines() if line.startswith("to train so: ")]
    assert "--config.streams.captions.batch_size=32" in flags
    assert f"--config.total_steps={again().total_steps // 2}" in flags
    assert "--config.evals" not in flags  # 16 divide as they are
    assert "V100" not in out  # another run than the original's
    told = sweep_table.table(result | dict(total_steps=250_000), [])
    assert "250,000 steps of 256 rows" in told
    assert "120 V100-hours" in told


def test_what_is_not_named_is_as_configured(compiled_before, tmp_path):
    found = topology.find("h100:8")
    assert sweep._batches(again(sweep="mesh", batches=(1, 2))) == (1,)
    assert sweep._meshes(again(sweep="batch"), found) == [dict(data=2, fsdp=2, tensor=2)]
    assert [list(one.values()) for one in sweep._meshes(again(sweep="mesh"), found)] == [
        [4, 1, 2], [1, 4, 2],
    ]  # fmt: skip
    hosts = dataclasses.replace(found, hosts=4)
    assert [one["fsdp"] for one in sweep._meshes(again(sweep="mesh"), hosts)] == [1, 2, 4]


def test_evaluations_follow_the_mesh():
    config = again()
    plan = dict(mesh=dict(data=32, fsdp=1, tensor=1), batch_sizes=dict(captions=32), times=2)
    found = sweep.flags(config, plan)
    assert "--config.mesh.data=32" in found
    assert "--config.evals.validation.batch_size=32" in found


def test_a_sweep_in_which_no_plan_fits_says_so(compiled_before, tmp_path, monkeypatch, capsys):
    tiny = dataclasses.replace(topology.find("h100:8"), memory=10**6)
    monkeypatch.setattr(topology, "find", lambda name: tiny)
    monkeypatch.setattr(step_program, "compile_step", lambda *_, **__: pytest.fail("compiled"))
    with pytest.raises(UserError, match=r"(?s)no plan of the sweep fits.*at most 977 KiB.*remat"):
        swept(tmp_path, batches=(1, 2), meshes=MESHES)
    out = capsys.readouterr().out
    assert out.count("does not fit") > out.count("more than a batch that does not fit") > 0
    assert json.loads((tmp_path / dry_run.FILE).read_text())["fastest"] is None


def test_batches_that_no_mesh_can_share_are_said(compiled_before, tmp_path, capsys):
    config = again(topology="h100:32", sweep="mesh", meshes=((32, 1, 1),))
    found = dataclasses.replace(topology.find("h100:8"), name="h100:32")
    mesh = dict(data=8, fsdp=1, tensor=1)
    config.streams.captions.batch_size = 12
    config.mesh.update(mesh)
    batch = dict(captions={})
    plan = sweep._plan(config, found, None, batch, 1, tried=True)
    assert plan["reason"] == "a batch cannot be cut evenly over the devices that share it"
    with pytest.raises(UserError, match=r"(?s)no plan of the sweep can be run.*cut evenly"):
        sweep.require_fitting(dict(fastest=None, plans=[plan]))


@pytest.mark.parametrize(
    ("dry", "told"),
    [
        (dict(topology="cpu:8"), r"(?s)without a data sheet.*one of v4.*b200.*cpu:8"),
        (dict(topology="x900:8"), r"must be one of cpu:N, .*h100:N.*x900:8"),
        (dict(meshes=((3, 1, 1),)), "does not cover 8 devices"),
        (dict(sweep="meshes"), r"(?s)config\.dry_run\.sweep.*'batch,mesh'.*meshes"),
        (dict(batches=(0,)), r"config\.dry_run\.batches"),
    ],
)
def test_bad_sweeps_are_refused(compiled_before, dry, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        swept(tmp_path, **dry)
