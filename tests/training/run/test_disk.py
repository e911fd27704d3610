"""Run folders that cannot be written, and disks that fill up."""

import contextlib
import errno
import subprocess
import time

import pytest

from checkpoints import checkpoint
from configs import vlbert_pretrain
from core.errors import UserError
from tests.training import fakes, run_fake
from training import loop
from training.run import disk, metrics


@pytest.fixture
def mounted(tmp_path):
    """mounted(options): a file system of its own; for root only."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def test_a_folder_that_cannot_be_written_is_refused_before_data_is_opened(tmp_path):
    (tmp_path / "file").write_text("")
    config = vlbert_pretrain.get_config()
    with pytest.raises(disk.DiskError, match=r"cannot write in the run folder .*file/run"):
        loop.run(config, tmp_path / "file" / "run")
    assert issubclass(disk.DiskError, UserError)  # main.py prints the message alone


def test_a_read_only_disk_is_refused(mounted):
    folder = mounted("size=1m,ro")
    with pytest.raises(disk.DiskError, match="Read-only file system"):
        loop.run(vlbert_pretrain.get_config(), folder / "run")


@pytest.mark.slow
def test_a_full_disk_ends_the_run_which_continues_when_there_is_space(mounted, tmp_path):
    config = fakes.config(total_steps=24)
    run_fake.run(tmp_path / "whole", config)
    folder = mounted("size=2m")
    workdir = folder / "run"
    filler = folder / "filler"

    def fill(draw):
        if draw == 10:  # between the saves of the steps 8 and 12
            while not (workdir / checkpoint.FOLDER / "8").exists():
                time.sleep(0.01)
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass

    with pytest.raises(disk.DiskError) as caught:
        run_fake.run(workdir, config, at_draw=fill)
    text = str(caught.value)
    assert "No space left on device" in text
    assert f"whole checkpoints in {workdir}: 4, 8; free there: 0.0 MB" in text
    filler.unlink()
    run_fake.run(workdir, config)
    curves = [
        [metrics.untimed(line) for line in metrics.read(folder / metrics.FILE)]
        for folder in (workdir, tmp_path / "whole")
    ]
    assert curves[0] == curves[1]
    assert not list((workdir / checkpoint.FOLDER).glob("*tmp*"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/metrics.jsonl"), "/x/metrics.jsonl"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (ValueError('INTERNAL: Error writing "/x/d" [OS error 28: ENOSPC No space]'), "ENOSPC"),
    ],
)
def test_errors_of_a_full_disk_are_told_apart(tmp_path, error, told):
    (tmp_path / checkpoint.FOLDER / "40").mkdir(parents=True)
    (tmp_path / checkpoint.FOLDER / "44.orbax-checkpoint-tmp").mkdir()
    last = RuntimeError("closing failed, too")
    last.__context__ = error
    with pytest.raises(disk.DiskError, match=told) as caught, disk.explained(tmp_path):
        raise last
    assert f"whole checkpoints in {tmp_path}: 40; free there" in str(caught.value)
    with pytest.raises(OSError, match="gone"), disk.explained(tmp_path):
        raise OSError(errno.EIO, "gone")
