"""Locks: one holder at a time, named in the refusal; holders that are gone are followed."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from core import lock
from core.errors import DataError

HOLD = """
import sys, time
from core import lock
with lock.held(sys.argv[1], "the folder", fix="choose another"):
    print("taken", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def held(path, **options):
    return lock.held(path, "the folder", fix="choose another", **options)


@pytest.fixture(params=["local", "remote"])
def path(request, tmp_path):
    if request.param == "local":
        return tmp_path / "run.lock"
    return request.getfixturevalue("bucket").url + "/run/run.lock"


def exists(path):
    return lock.remote.path(path).exists()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.02)
    monkeypatch.setattr(lock, "PATIENCE", 0.4)


def test_a_second_one_is_refused_by_name_until_the_first_is_through(path):
    with held(path):
        with pytest.raises(DataError, match="at work in the folder") as caught, held(path):
            pass
        assert f"process {os.getpid()} on " in str(caught.value)
        assert "choose another" in str(caught.value)
        assert exists(path)
    assert not exists(path)
    with held(path):
        pass


def test_of_many_at_the_same_moment_one_has_it(tmp_path):
    ready, results = threading.Barrier(8), []

    def run():
        ready.wait()
        try:
            with held(tmp_path / "lock"):
                results.append("has it")
                time.sleep(0.3)
        except DataError:
            results.append("refused")

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["has it", *["refused"] * 7]


def test_a_killed_holder_of_this_machine_is_followed_at_once(tmp_path, capsys):
    path = tmp_path / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), "60"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "taken\n"
    with pytest.raises(DataError, match=f"process {process.pid} on"), held(path):
        pass
    process.kill()
    process.wait()
    with held(path):
        told = capsys.readouterr().err
        assert "the folder: its last process is gone, this one takes over" in told
        assert f"process {process.pid} on" in told
    assert not path.exists()


def other(**changes):
    """A lock of another process."""
    holder = dataclasses.replace(lock._me(), token="x", host="elsewhere", **changes)
    return (json.dumps(dataclasses.asdict(holder)) + "\n").encode()


def test_a_number_that_is_used_again_is_no_holder(tmp_path):
    path = tmp_path / "lock"
    path.write_bytes(other(born="1"))
    with held(path):
        assert json.loads(path.read_bytes())["born"] == lock._me().born


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("text", [None, b"", b"\xff{", b"[]", b'{"host": 3}'])
def test_a_holder_elsewhere_is_gone_when_it_gives_no_sign(path, text, capsys):
    lock.remote.path(path).parent.mkdir(parents=True, exist_ok=True)
    lock.remote.path(path).write_bytes(other(machine="b") if text is None else text)
    with held(path):
        assert "this one takes over" in capsys.readouterr().err
    assert not exists(path)


@pytest.mark.usefixtures("quick")
def test_a_holder_elsewhere_that_gives_signs_is_respected(path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 30.0)
    with held(path):
        monkeypatch.setattr(lock, "_machine", lambda: "another")  # as the second one sees it
        with pytest.raises(DataError, match="at work in the folder"), held(path):
            pass


@pytest.mark.usefixtures("quick")
def test_who_has_lost_it_is_told_and_leaves_it_to_the_other(tmp_path):
    path, told = tmp_path / "lock", []
    with held(path, lost=told.append):
        path.write_bytes(other())
        until = time.monotonic() + 10
        while not told and time.monotonic() < until:
            time.sleep(0.01)
    assert "the folder was taken over by process" in told[0]
    assert path.read_bytes() == other()


def test_all_are_given_back_at_once(tmp_path):
    with held(tmp_path / "a"), held(tmp_path / "b"):
        lock.release_all()
        assert not list(tmp_path.iterdir())
