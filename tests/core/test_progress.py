"""Progress lines tell a time that is left only once a rate has been measured."""

import pytest

from core import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_the_first_units_are_no_measure_of_the_rate(clock, capsys):
    counted = progress.Progress("draw", 4800, unit="images", every=5.0)
    lines = []
    for seconds, count in ((8, 1), (0.1, 1), (4.95, 100), (5, 100), (5, 4598)):
        clock.now += seconds
        counted.add(count)
        lines.append(capsys.readouterr().err)
    assert lines == [
        "draw: 1/4,800 images\n",
        "",
        "draw: 102/4,800 images, 20/s, 235 s left\n",
        "draw: 202/4,800 images, 20/s, 230 s left\n",
        "draw: 4,800/4,800 images, 319/s, 0 s left\n",
    ]


def test_slow_work_has_a_rate_that_is_not_zero(clock, capsys):
    counted = progress.Progress("read", unit="files", every=10.0)
    for _ in range(2):
        clock.now += 20
        counted.add()
    assert capsys.readouterr().err == "read: 1 files\nread: 2 files, 0.05/s\n"


def test_a_rate_of_a_moment_is_none(clock, capsys):
    counted = progress.Progress("read", 9, every=10.0)
    for seconds in (9.9, 0.2):
        clock.now += seconds
        counted.add()
    assert capsys.readouterr().err == "read: 2/9 rows\n"
