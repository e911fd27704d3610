import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from tests.training import fakes
from training.planning import host_checks, host_reports, preflight

ROOT = pathlib.Path(__file__).parents[3]


def hosts(**odd):
    """Reports of four hosts; `odd`: {what: value} of the third."""
    same = dict(commit="abc", source="12", config="34", versions="python 3.11.9, jax 0.10.2",
                workdir="ok", devices="4 × TPU v4")  # fmt: skip
    return {i: {"host": f"worker-{i}"} | same | (odd if i == 2 else {}) for i in range(4)}


def test_hosts_that_are_alike_have_no_problems():
    assert host_reports.compare(hosts(), 4, 60) == []


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (dict(commit="abd"), "commit: worker-2 (process 2): abd\n  the other 3: abc\n"),
        (dict(config="35"), "config: worker-2 (process 2): 35\n  the other 3: 34\n"),
        (dict(devices="3 × TPU v4"), "3 × TPU v4\n  the other 3: 4 × TPU v4\n"),
        (
            dict(versions="python 3.11.9, jax 0.10.1"),
            "versions: worker-2 (process 2): jax 0.10.1\n  the other 3: jax 0.10.2\n"
            "  fix: pip install -r requirements.lock",
        ),
        (dict(workdir="FAILED: OSError: no"), "workdir: worker-2 (process 2): FAILED: OSError: no"),
        (dict(config="FAILED: no"), "config: worker-2 (process 2): FAILED: no"),
    ],
)
def test_the_odd_one_out_is_named(odd, said):
    (problem,) = host_reports.compare(hosts(**odd), 4, 60)
    assert said in problem


def test_what_may_differ_is_no_problem_and_who_is_silent_is_one():
    found = hosts(disk="12 GB free")
    assert host_reports.compare(found, 4, 60) == []
    del found[1]
    (problem,) = host_reports.compare(found, 4, 60)
    assert problem.startswith("process 1 of 4 did not report within 60 s")


def test_the_table_has_one_line_per_host():
    lines = host_reports.table(hosts(workdir="FAILED: OSError: a long story")).splitlines()
    assert lines[0].split()[:3] == ["process", "host", "commit"]
    assert [line.split()[1] for line in lines[1:]] == [f"worker-{i}" for i in range(4)]
    assert [" FAILED " in line for line in lines] == [False, False, False, True, False]
    assert "story" not in lines[3]


def test_commit_and_source_see_what_changed(tmp_path):
    (tmp_path / "main.py").write_text("1")
    package = tmp_path / "training"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert host_checks.commit(tmp_path) == "none"
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    clean, source = host_checks.commit(tmp_path), host_checks.source_digest(tmp_path)
    assert len(clean) == 12
    (package / "__init__.py").write_text("2")
    assert host_checks.commit(tmp_path) == clean + "+"
    changed = host_checks.source_digest(tmp_path)
    (package / "__init__.py").rename(package / "step.py")
    (package / "__init__.py").write_text("")
    assert len({source, changed, host_checks.source_digest(tmp_path)}) == 3


def test_the_config_digest_sees_every_field():
    changes = ({}, {"seed": 1}, {"streams.text.batch_size": 8}, {"checkpoint.best": "x"})
    digests = {host_checks.config_digest(fakes.config(**change)) for change in changes}
    assert len(digests) == 4
    assert host_checks.config_digest(fakes.config()) in digests


def test_too_little_space_and_a_run_folder_that_takes_nothing(tmp_path):
    assert "GB free" in host_checks.free_space([str(tmp_path / "new" / "run"), "gs://b/run"], 0)
    assert host_checks.free_space(["gs://b/run"], 1e9) == "remote"
    with pytest.raises(OSError, match=r"GB left, needed are --free_gb=1e\+09"):
        host_checks.free_space([str(tmp_path)], 1e9)
    assert host_checks.probe(str(tmp_path / "run")) == "ok"
    assert list((tmp_path / "run").iterdir()) == []
    (tmp_path / "file").write_text("")
    said = host_checks.attempt(lambda: host_checks.probe(str(tmp_path / "file" / "run")))
    assert said.startswith("FAILED: NotADirectoryError")


def alone(tmp_path, monkeypatch, data):
    monkeypatch.setattr(host_checks, "data", data)
    config = ConfigDict(fakes.config().to_dict() | {"data": {"dir": str(tmp_path)}})
    return preflight.run(config, str(tmp_path / "run"), mode="train", seconds=1, least_gb=0)


def test_one_host_alone_is_checked_too(tmp_path, monkeypatch, capsys):
    assert alone(tmp_path, monkeypatch, lambda config: "aa") == []
    out = capsys.readouterr().out
    assert out.endswith("preflight: 1 ready\n")
    assert "8 × cpu" in out
    assert list((tmp_path / "run").iterdir()) == []

    def broken(config):
        raise FileNotFoundError("no store")

    (problem,) = alone(tmp_path, monkeypatch, broken)
    said = capsys.readouterr()
    assert problem in said.err
    assert problem.endswith("FAILED: FileNotFoundError: no store")
    assert "preflight: 1 problems" in said.out


@pytest.mark.slow
def test_two_processes_find_what_differs(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.training.planning.run_preflight",
                str(port),
                str(i),
                tmp_path,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n\n".join(outputs)
    results = [
        dict(json.loads(line[7:]) for line in out.splitlines() if line.startswith("RESULT "))
        for out in outputs
    ]
    late = results[0].pop("late")
    assert results[0] == results[1]  # so that both exit alike
    found = results[0]
    assert found.pop("alike") == []
    assert late == host_reports.compare({0: {"host": "a"}}, 2, 2)
    assert {name: problem.split(":")[0] for name, (problem,) in found.items()} == {
        "versions": "versions",
        "config": "config",
        "command": "command",
        "not shared": "shared",
        "devices": "devices",
        "data": "data",
    }
    assert "(process 1)" in found["not shared"][0]
    assert "must be one that all hosts share" in found["not shared"][0]
    assert "ZeroDivisionError" in found["data"][0]
    assert "jax 0.10.1\n  the other 1: jax 0.10.0" in found["versions"][0]
    assert "preflight: 2 ready" in outputs[0]  # the first process prints for all
    assert "preflight:" not in outputs[1]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.slow
def test_the_command_takes_the_flags_of_main_and_opens_the_data(tmp_path):
    def run(arguments, *more):
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "training.planning.preflight",
                f"--config=configs/vlbert_pretrain.py{arguments}",
                f"--workdir={tmp_path / 'run'}",
                f"--config.data.dir={tmp_path / 'data'}",
                *more,
            ],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )

    good = run(
        "",
        "--mode=train",
        "--config.data.scenes.train=96",
        "--config.data.scenes.validation=24",
        "--config.data.scenes.test=8",
        "--config.data.vocab_size=600",
    )
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.endswith("preflight: 1 ready\n")
    bad = run(":data=jsonl", "--config.data.annotations=/nowhere.jsonl")
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert "preflight: 1 problems" in bad.stdout
    assert "/nowhere.jsonl" in bad.stderr
