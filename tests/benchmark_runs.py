"""Runs a benchmark in a process of its own, as its users do."""

import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


def run_benchmark(name: str, *options: str) -> str:
    """What the benchmark prints."""
    command = [sys.executable, FOLDER / name, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout
