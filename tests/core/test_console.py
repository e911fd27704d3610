"""Command lines end with a message and a status."""

import subprocess
import sys

import pytest

from core import console
from core.errors import DataError


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (DataError("bad", fix="mend"), 1, "error: bad\n  fix: mend\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_a_command_tells_what_ends_it_without_a_traceback(error, status, told, capsys):
    @console.command
    def main(argv):
        raise error

    assert main([]) == status
    assert capsys.readouterr().err == told


def test_a_command_gives_its_status_and_lets_bugs_pass():
    @console.command
    def main(argv):
        if argv:
            raise KeyError(*argv)

    assert main([]) == 0
    with pytest.raises(KeyError):
        main(["x"])


def test_a_reader_that_is_gone_ends_nothing():
    code = "from core.console import say\nfor _ in range(3): say('x' * 10**6)\nopen('/dev/null')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 0
