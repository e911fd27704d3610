"""A minute of scripts/fuzz.py over all inputs: no traceback, hang, crash or silent change."""

import pathlib
import subprocess
import sys

import pytest

from scripts import fuzz

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_damaged_inputs_are_read_or_refused_in_words():
    # The same cases every time, as many of them as the machine reads in a minute; what is printed
    # names the command for each that fails. Other cases: --seed=N, by hand.
    command = [sys.executable, "scripts/fuzz.py", "--seconds=60", "--seed=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    told = f"{' '.join(command)}\n{done.stdout[-20_000:]}\n{done.stderr[-5_000:]}"
    assert done.returncode == 0, told
    total = next(line.split() for line in done.stdout.splitlines() if line.startswith("all "))
    assert int(total[1]) > 500, told


@pytest.mark.parametrize("wrong", ["--seconds=0", "--seconds=-5", "--workers=0", "--case=-1"])
def test_numbers_that_would_try_nothing_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        fuzz.main([wrong])
    assert ended.value.code == 2
    assert f"argument {wrong.partition('=')[0]}: expected a number of at least" in (
        capsys.readouterr().err
    )
