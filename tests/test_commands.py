"""Programs that are started by `python -m`."""

import pathlib
import signal
import subprocess
import sys

import pytest

from core import interrupts

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = ("checkpoints", "evaluation", "inference", "input_pipeline", "runtime", "training")
PROGRAMS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if '\nif __name__ == "__main__":\n' in path.read_text()
    and "scenes" not in path.parts  # tools of the embedded data's authors: slow to load as packages
    and path.name != "loader.py"  # goes into the folder of an export, where it is run
)
INTERRUPTED_IMPORT = """
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
package = sys.modules["__main__"]
class Finder:
    def find_spec(self, name, *_):
        own = name in ("core", "core.interrupts") or name.split(".")[0] in sys.stdlib_module_names
        if sys.modules["__main__"] is not package and not own:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
program = sys.argv.pop()
runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_while_it_loads_is_one_line(program):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, "--help", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (interrupts.STATUS, -signal.SIGINT), done.stdout
    assert done.stderr == f"{interrupts.STOPPED}\n"


def test_the_programs_are_found():
    assert {"checkpoints.convert", "input_pipeline.doctor", "input_pipeline.importers"} <= set(
        PROGRAMS
    )
