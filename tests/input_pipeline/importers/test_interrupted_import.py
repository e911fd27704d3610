"""Imports that end early: kills, Ctrl-C, bad images; and what the next run makes of them."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from made_data import leftovers
from test_run import ROOT, contents, convert, parts_of
from tsv import EVEN, OPTIONS, PLAIN, even, line, write, write_images

from core.errors import DataError

IMAGES = 80


@pytest.fixture(scope="module")
def long_import(tmp_path_factory):
    """(file of many images, store of it in many parts)."""
    folder = tmp_path_factory.mktemp("long")
    path = write(folder / "a.tsv", [even(i) for i in range(IMAGES)])
    convert(path, folder / "s", part_size=EVEN)
    return path, contents(folder / "s")


def half_way(path, out, workers):
    """An import as a process, stopped (SIGSTOP) when it has finished a few parts."""
    options = {"out": out, "part_size": EVEN, "workers": workers, **OPTIONS}
    command = [sys.executable, "-m", "input_pipeline.importers", "bottom_up_tsv", path]
    command += [f"--{name}={value}" for name, value in options.items()]
    for _ in range(10):  # on a busy machine it may be through before it is looked at
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=hear_ctrl_c,
        )
        partial = pathlib.Path(f"{out}.partial")
        wait_for(lambda p=process, f=partial: len(parts_of(f)) > 4 or p.poll() is not None)
        process.send_signal(signal.SIGSTOP)
        if 4 < len(parts_of(partial)) < IMAGES - 20:
            return process
        process.kill()
        process.communicate()
        for left in (out, partial):
            shutil.rmtree(left, ignore_errors=True)
    raise AssertionError("an import is never seen half way")


def hear_ctrl_c():
    """As at a terminal: a suite that runs in the background ignores Ctrl-C, and so would this."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def workers_of(process):
    """Process ids of the workers of an import."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if "spawn_main" in pathlib.Path(f"/proc/{child}/cmdline").read_text()
    ]


def alive(pid):
    with contextlib.suppress(FileNotFoundError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_and_resumed_is_as_if_in_one_go(tmp_path, capsys, long_import, workers):
    path, expected = long_import
    process = half_way(path, tmp_path / "s", workers)
    helpers = workers_of(process) if workers > 1 else []
    process.kill()
    process.communicate()
    assert not (tmp_path / "s").exists()
    wait_for(lambda: not any(map(alive, helpers)))  # no worker goes on without its parent
    finished = parts_of(tmp_path / "s.partial")
    assert 4 < len(finished) < IMAGES
    (tmp_path / "s.partial" / ".part-00099.tmp-0").mkdir()  # as a kill leaves it
    done = convert(path, tmp_path / "s", part_size=EVEN)
    assert f"{len(finished)} of {IMAGES} parts are there already" in capsys.readouterr().out
    assert done.images == IMAGES
    assert contents(tmp_path / "s") == expected
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.slow
def test_a_dead_worker_is_told(tmp_path, long_import):
    path, expected = long_import
    process = half_way(path, tmp_path / "s", 2)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker process died" in text
    assert "Traceback" not in text
    assert f"of {IMAGES} parts are finished in" in text
    assert not list((tmp_path / "s.partial").glob(".part-*"))
    convert(path, tmp_path / "s", part_size=EVEN)
    assert contents(tmp_path / "s") == expected


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c(tmp_path, long_import, workers):
    path, expected = long_import
    process = half_way(path, tmp_path / "s", workers)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and workers
    process.send_signal(signal.SIGCONT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert text.startswith("stopped\n  kept: ")
    assert "Traceback" not in text
    assert not (tmp_path / "s").exists()
    assert not list((tmp_path / "s.partial").glob(".part-*"))
    convert(path, tmp_path / "s", part_size=EVEN)
    assert contents(tmp_path / "s") == expected


def test_killed_while_merging(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tsv", [even(i) for i in range(6)])
    convert(path, tmp_path / "one", part_size=EVEN)
    real, moved = pathlib.Path.rename, []

    def rename(self, target):
        if self.suffix == ".bin":
            moved.append(self)
            if len(moved) == 3:
                raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            convert(path, tmp_path / "s", part_size=EVEN)
    convert(path, tmp_path / "s", part_size=EVEN)
    assert contents(tmp_path / "s") == contents(tmp_path / "one")


def with_a_bad_line(folder):
    """A file of three images and a bad line; the place of the last."""
    path = write(folder / "a.tsv", [*map(even, range(3)), even(3, num_boxes=b"x")])
    return path, f"{path}, byte {3 * EVEN}"


def unfinished(folder, **arguments):
    """An import that stops at its last image; returns its file."""
    path, _ = with_a_bad_line(folder)
    with pytest.raises(DataError, match="no whole number") as error:
        convert(path, folder / "s", part_size=EVEN, **arguments)
    assert "kept: 3 of 4 parts are finished" in error.value.__notes__[0]
    assert not (folder / "s").exists()
    assert parts_of(folder / "s.partial") == ["part-00000", "part-00001", "part-00002"]
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_image_leaves_finished_parts_for_the_next_run(tmp_path, workers):
    path, where = with_a_bad_line(tmp_path)
    with pytest.raises(DataError, match="no whole number"):
        convert(path, tmp_path / "s", part_size=EVEN, workers=workers)
    assert not (tmp_path / "s").exists()
    finished = parts_of(tmp_path / "s.partial")
    assert "part-00003" not in finished
    inodes = {shard.stat().st_ino for shard in (tmp_path / "s.partial").glob("part-*/store/shard*")}
    done = convert(path, tmp_path / "s", part_size=EVEN, on_bad="skip")
    assert (done.images, done.skipped) == (3, 1)
    assert inodes <= {shard.stat().st_ino for shard in (tmp_path / "s").glob("shard*")}
    rows = [json.loads(row) for row in (tmp_path / "s" / "skipped.jsonl").read_text().splitlines()]
    assert [row["where"] for row in rows] == [where]
    assert "'num_boxes' is no whole number" in rows[0]["reason"]


def test_an_error_before_any_part_is_finished_leaves_nothing(tmp_path):
    path = write(tmp_path / "a.tsv", [line(PLAIN, 0), line(PLAIN, 1, boxes=b"AAAA")])
    with pytest.raises(DataError, match="'boxes' has the wrong length"):
        convert(path, tmp_path / "s")
    bad = write(tmp_path / "b.tsv", [line(PLAIN, 0, boxes=b"AAAA")])
    with pytest.raises(DataError, match=r"(?s)no image can be read.*--on_bad error"):
        convert(bad, tmp_path / "s", on_bad="skip")
    late = write(tmp_path / "c.tsv", [line(PLAIN, 0, n=10)])
    with pytest.raises(DataError, match="would be empty"):
        convert(late, tmp_path / "s", on_bad="skip", max_regions=9)
    assert leftovers(tmp_path) == ["a.tsv", "b.tsv", "c.tsv"]


CHANGED = {
    "detector": (dict(detector="other"), "detector='other'"),
    "dtype": (dict(dtype="float32"), "dtype='float32'"),
    "ids": (dict(ids="number"), "ids='number'"),
    "part_size": (dict(part_size=2), "part_size=2"),
    "option": (dict(options={**OPTIONS, "num_classes": 9}), "num_classes=9"),
}


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_resuming_with_another_option_is_refused(tmp_path, name):
    changed, message = CHANGED[name]
    path = unfinished(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=rf"(?s)begun with other.*{message}.*remove .*s\.partial"):
        convert(path, tmp_path / "s", **{"part_size": EVEN, **changed})
    assert contents(tmp_path) == before


def test_resuming_with_another_input_is_refused(tmp_path):
    path = unfinished(tmp_path)
    os.utime(path, ns=(0, 0))
    with pytest.raises(DataError, match=r"(?s)begun with other.*a\.tsv.*changed 0"):
        convert(path, tmp_path / "s", part_size=EVEN)
    write_images(tmp_path / "a.tsv", range(5))
    with pytest.raises(DataError, match=r"(?s)begun with other.*a\.tsv.*bytes.*found.*bytes"):
        convert(path, tmp_path / "s", part_size=EVEN)


def test_what_was_imported_leaving_out_bad_images_is_no_import_without(tmp_path):
    path = unfinished(tmp_path)
    plan = tmp_path / "s.partial" / "plan.json"
    plan.write_text(plan.read_text().replace('"on_bad": "error"', '"on_bad": "skip"'))
    with pytest.raises(DataError, match=r"(?s)on_bad='skip' as it was begun.*on_bad='error'"):
        convert(path, tmp_path / "s", part_size=EVEN)


def test_one_import_at_a_time(tmp_path):
    path = unfinished(tmp_path)
    with open(tmp_path / "s.partial" / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process works on this import"):
            convert(path, tmp_path / "s", part_size=EVEN)


@pytest.mark.parametrize("file", ["notes.json", "skipped.json", "store/manifest.json"])
def test_damage_of_a_finished_part_is_told_with_the_cure(tmp_path, file):
    path = unfinished(tmp_path)
    damaged = tmp_path / "s.partial" / "part-00000" / file
    whole = damaged.read_bytes()
    for text in ("", "3", "[3]", "[" * 5000):
        damaged.write_text(text)
        with pytest.raises(DataError, match=r"(?s)unfinished import is damaged.*fix: remove"):
            convert(path, tmp_path / "s", part_size=EVEN, on_bad="skip")
        assert not (tmp_path / "s").exists()
    damaged.write_bytes(whole)
    convert(path, tmp_path / "s", part_size=EVEN, on_bad="skip")
