"""Disks that are full, too small or read-only: a sentence, and nothing half written."""

import errno
import os
import resource
import signal

import numpy as np
import pytest
from made_data import leftovers, write_store

from checkpoints import export, share, sources
from core import console, disk, progress
from core.errors import DataError
from input_pipeline.importers.__main__ import main as imports
from input_pipeline.regions import convert_store
from input_pipeline.streams import hard_negatives
from input_pipeline.texts import tokenizer

FULL = "the disk is full, or a limit on files or quota is reached"


@pytest.fixture
def limited():
    """limited(n): from now on no file of this process may grow beyond n bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda n: resource.setrlimit(resource.RLIMIT_FSIZE, (n, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, old)


def source(size=5000):
    name = "trunk/embeddings/word/embedding"
    arrays = {name: np.ones((size, 4), np.float32)}
    return sources.Source("x", "bert", arrays, {name: name})


def shared(out):
    model = dict(name="vlbert", layers=1, hidden=4)
    share.write(out, share.Shared(source().arrays, {"model": model}, {}, None, None, 1, "a test"))


WRITERS = {
    "share": shared,
    "--torch": lambda out: export.to_torch(source(), f"{out}.safetensors"),
    "hard_negatives": lambda out: hard_negatives.save(
        hard_negatives.Pool([f"{i:09}" for i in range(999)], np.ones((999, 9), np.int32), "s", "f"),
        out,
    ),
    "vocabulary": lambda out: tokenizer.train_wordpiece(["some text"] * 3, 300, out),
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_file_that_may_not_grow_is_told_and_not_left(tmp_path, limited, what):
    limited(1024)
    with pytest.raises(DataError, match=rf"(?s){FULL}.*MB are free"):
        WRITERS[what](tmp_path / "out")
    assert not leftovers(tmp_path)


def test_commands_end_with_the_sentence(tmp_path, limited, capsys):
    store = write_store(tmp_path / "store", 9, shard_bytes=10**6)
    path = tmp_path / "a.npz"
    np.savez(
        path,
        paths=np.asarray(["a.jpg"]),
        hw=np.asarray([[20, 30]]),
        offset=np.asarray([0, 5]),
        boxes=np.tile(np.float32([0, 0, 9, 9]), (5, 1)),
        cls_prob=np.full((5, 4), 0.25, np.float16),
        objects_id=np.zeros(5, np.int16),
        feat=np.ones((6, 2000), np.float16),
    )
    before = leftovers(tmp_path)
    limited(1024)
    commands = {
        "convert_store": lambda: convert_store.main(
            [store, str(tmp_path / "out"), "--dtype", "int8"]
        ),
        "importers": lambda: imports(
            ["npz", str(path), f"--out={tmp_path / 'out'}", "--workers=1"]
        ),
    }
    for name, run in commands.items():
        assert run() == 1, name
        told = capsys.readouterr().err
        assert FULL in told, (name, told)
        assert "Traceback" not in told
    assert leftovers(tmp_path) == before


def test_a_read_only_place_is_told(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    for work in (progress.atomic_file, progress.atomic_folder, progress.alone):
        with pytest.raises(DataError, match="the disk is read-only"), work(tmp_path / "a" / "b"):
            pass


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), FULL),
        (OSError("1000 requested and 24 written"), FULL),
        (RuntimeError("I/O error: No space left on device (os error 28)"), FULL),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "where: /x/y"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", b"/x/y"), "where: /x/y"),
    ],
)
def test_a_command_tells_errors_of_files(error, told, capsys):
    @console.command
    def main(argv):
        raise error

    assert main([]) == 1
    assert told in capsys.readouterr().err


def test_reading_elsewhere_is_no_error_of_what_is_written(tmp_path):
    error = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/x")
    with pytest.raises(PermissionError), disk.explained(tmp_path / "out"):
        raise error
    with pytest.raises(KeyError), disk.explained(tmp_path / "out"):
        raise KeyError("a bug")
