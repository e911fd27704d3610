"""Freed memory is kept for the next step, where steps run on the CPU."""

import json
import platform
import subprocess
import sys

import pytest

from training import host_memory

PROGRAM = """
import json, resource
from training import host_memory
kept = host_memory.keep_freed() if {keep} else False
import ctypes, threading

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step(counts):
    for _ in range(6):
        before = faults()
        block = ctypes.c_void_p(libc.malloc(64 << 20))
        libc.memset(block, 1, 64 << 20)
        libc.free(block)
        counts.append(faults() - before)

found = []
for _ in range(2):  # in threads of its own, as a backend's
    thread = threading.Thread(target=step, args=(found,))
    thread.start()
    thread.join()
print(json.dumps([kept, found]))
"""


def run(keep):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)],
        env=dict(JAX_PLATFORMS="cpu", PYTHONPATH=".", PATH=""),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="options of glibc")
def test_pages_are_cleared_once():
    kept, found = run(keep=True)
    assert kept
    _, given_back = run(keep=False)
    # Only the first of twelve is new to the process: 16,384 pages, or fewer where they are huge.
    assert 10 * sum(found[1:]) < sum(given_back[1:]), (found, given_back)


def test_hosts_with_an_accelerator_are_left_alone(monkeypatch, tmp_path):
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(host_memory, "ACCELERATORS", (str(tmp_path / "nvidia[0-9]*"),))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert not host_memory.keep_freed()
