"""Where the time of a run went, over attempts that were killed: every second once."""

import json

import pytest

from training.run import goodput


class Clock:
    """Stands for the module `time`; a second passes when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now

    def perf_counter(self):
        return self.now - 77


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(goodput, "time", clock)
    return clock


def spend(ledger, clock, category, seconds):
    with ledger.during(category):
        clock.now += seconds


def begin(workdir, clock, saved=None, *, startup=10.0, done=False):
    """An attempt that has come to its first step."""
    ledger = goodput.Ledger()
    clock.now += startup
    if saved:
        spend(ledger, clock, "restoring", 2.0)
    ledger.resume(workdir, saved, done=done)
    ledger.write(workdir)
    ledger.enter("steps")
    return ledger


def seconds(ledger):
    return {name: value for name, value in ledger.summary()["seconds"].items() if value}


def test_every_second_has_one_category(tmp_path, clock):
    ledger = begin(tmp_path, clock)
    clock.now += 20
    spend(ledger, clock, "input", 1)
    with ledger.during("evaluation"):
        clock.now += 3
        spend(ledger, clock, "input", 4)
        clock.now += 5
    clock.now += 1
    assert seconds(ledger) == dict(startup=10, steps=21, input=5, evaluation=8)
    assert ledger.share() == pytest.approx(21 / 44)
    assert ledger.figures()["goodput/evaluation"] == 8
    assert ledger.line() == (
        "goodput 47.7% of 44 s in 1 attempt; input 11.4%, startup 22.7%, evaluation 18.2%"
    )


def killed(tmp_path, clock):
    """A run killed 9 s after its checkpoint, 3 s after it was last written down; what it saved."""
    ledger = begin(tmp_path, clock)
    clock.now += 20
    saved = json.loads(json.dumps(ledger.state()))
    spend(ledger, clock, "checkpoints", 1)
    clock.now += 5
    ledger.write(tmp_path)
    clock.now += 3
    return saved


def test_what_a_kill_lost_is_found_in_what_it_left(tmp_path, clock):
    saved = killed(tmp_path, clock)
    clock.now += 7
    ledger = begin(tmp_path, clock, saved)
    clock.now += 30
    # The save and the steps after it are done again. Nobody saw the last 3 s.
    assert seconds(ledger) == dict(startup=20, steps=50, restoring=2, lost=6, downtime=10)
    assert ledger.summary()["attempts"] == 2
    assert sum(seconds(ledger).values()) == clock.now - 1000


def test_attempts_that_come_to_nothing_are_counted_once(tmp_path, clock):
    saved = killed(tmp_path, clock)
    for _ in range(2):
        clock.now += 7
        begin(tmp_path, clock, saved)
    ledger = begin(tmp_path, clock, saved)
    assert seconds(ledger) == dict(startup=40, steps=20, restoring=6, lost=6, downtime=17)
    assert ledger.summary()["attempts"] == 4
    assert sum(seconds(ledger).values()) == clock.now - 1000


def test_without_the_file_the_checkpoint_tells(tmp_path, clock):
    saved = killed(tmp_path, clock)
    (tmp_path / goodput.FILE).unlink()
    ledger = begin(tmp_path, clock, saved)
    assert seconds(ledger) == dict(startup=20, steps=20, restoring=2, downtime=9)


def test_without_a_checkpoint_all_steps_are_lost(tmp_path, clock):
    killed(tmp_path, clock)
    ledger = begin(tmp_path, clock)
    assert seconds(ledger) == dict(startup=20, lost=26, downtime=3)


def test_a_run_that_was_done_only_grows_by_what_extends_it(tmp_path, clock):
    ledger = begin(tmp_path, clock)
    clock.now += 20
    saved = ledger.state()
    ledger.write(tmp_path, finished=True)
    whole = seconds(ledger)
    clock.now += 5000
    again = begin(tmp_path, clock, saved, done=True)
    clock.now += 5
    assert seconds(again) == whole
    assert again.summary()["attempts"] == 1
    again.write(tmp_path, finished=True)
    clock.now += 5000
    longer = begin(tmp_path, clock, saved)
    assert seconds(longer) == whole | dict(startup=20, restoring=2)
    assert begin(tmp_path, clock).summary()["attempts"] == 3  # the file is no longer a finished one


def test_another_run_in_the_folder_of_one_that_was_done_begins_anew(tmp_path, clock):
    begin(tmp_path, clock).write(tmp_path, finished=True)
    ledger = begin(tmp_path, clock)
    assert seconds(ledger) == dict(startup=10)
    assert ledger.summary()["attempts"] == 1


def test_a_bucket_is_not_written_with_every_log_line(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(goodput.epath, "Path", lambda path: Bucket(tmp_path / "there"))
    ledger, times = goodput.Ledger(), []
    for _ in range(100):
        clock.now += 1
        ledger.write("gs://bucket/run")
        times.append(json.loads((tmp_path / "there").read_text())["time"])
    assert sorted(set(times)) == [1001, 1031, 1061, 1091]
    ledger.write("gs://bucket/run", finished=True)
    assert json.loads((tmp_path / "there").read_text())["time"] == 1100


class Bucket:
    """A folder whose one file is elsewhere."""

    def __init__(self, file):
        self._file = file

    def __truediv__(self, name):
        return self

    def __str__(self):
        return "gs://bucket/run/goodput.json"

    def write_text(self, text):
        self._file.write_text(text)
