"""Damages small inputs of every kind, reads them, and counts what comes of it.

  python scripts/fuzz.py --seconds=600                        # all targets, a table at the end
  python scripts/fuzz.py --seconds=60 --target="layout hdf5"
  python scripts/fuzz.py --target="layout hdf5" --case=17     # one case again, with its traceback

Inputs are of every layout, data set, store, table, run, shared folder and published file (see
`fuzzing/targets.py`). Each is damaged at one to three places, and read in a process with limits on
memory and time. Good is an input that is read, or refused by an error that says why. A traceback, a
hang, a crash, a message that cannot be printed, and a value that changes in silence where digests
guard it are bugs: each kind is shown once, and the exit status is 1.
"""

import argparse
import collections
import json
import os
import pathlib
import queue
import random
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from core import arguments
from core.console import say
from core.tables import columns
from scripts.fuzzing import mutations
from scripts.fuzzing.targets import TARGETS

ROOT = pathlib.Path(__file__).resolve().parents[1]
GOOD = ("read", "other values", "refused")
BAD = ("traceback", "hang", "crash", "silent change", "unreadable message")
START = 300.0  # seconds that making a sound input may take


class Reader:
    """The process that reads the cases of a target, started again where a case has ended it."""

    def __init__(self, name: str, sound: pathlib.Path, log: pathlib.Path):
        self._command = [sys.executable, str(ROOT / "scripts/fuzzing/child.py"), name, str(sound)]
        self._log, self._seconds = log, TARGETS[name].seconds
        self._process: subprocess.Popen | None = None

    def __call__(self, number: int, folder: pathlib.Path) -> dict:
        """What a case led to: {"kind", "text", "values"}."""
        if self._process is None:
            self._start()
        self._process.stdin.write(f"{number} {folder}\n".encode())
        self._process.stdin.flush()
        answer = self._answer(self._seconds)
        if answer is not None:
            return answer
        status = self._process.poll()
        kind, text = "hang", f"nothing after {self._seconds:.0f} s"
        if status is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-3:]
            kind, text = "crash", "\n".join([f"exit status {status}", *lines])
        self.close()
        return dict(kind=kind, text=text)

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("wb"),
            cwd=ROOT,
        )
        if self._answer(START) != "ready":
            self.close()
            raise SystemExit(f"{self._command[2]}: the sound input cannot be read:\n"
                             + self._log.read_text(errors="replace")[-3000:])  # fmt: skip

    def _answer(self, seconds: float):
        """The next line as JSON; None where none comes in time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            return None
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None


def run_cases(name: str, args, root: pathlib.Path, seconds: float, seen: "Seen") -> None:
    """Reads damaged inputs of a target for so many seconds, or the one that is asked for."""
    sound = root / "sound" / name.replace(" ", "_")
    work = root / "cases" / sound.name
    reader = Reader(name, sound, root / f"{sound.name}.log")
    try:
        expected = _good(reader(0, sound), name)
        end, number = time.monotonic() + seconds, args.case or 0
        while number == args.case or (args.case is None and time.monotonic() < end):
            folder = work / str(number)
            shutil.copytree(sound, folder)
            what = mutations.damage(folder, random.Random(f"{args.seed} {name} {number}"))
            found = reader(number, folder)
            if found["kind"] == "read" and found["values"] != expected:
                guarded = TARGETS[name].guarded
                changed = sorted(found["values"].items() ^ expected.items())[:3]
                found.update(kind="silent change" if guarded else "other values", text=str(changed))
            if found["kind"] in BAD and args.keep:
                shutil.copytree(folder, args.keep / sound.name / str(number), dirs_exist_ok=True)
            seen.add(name, number, what, found)
            shutil.rmtree(work, ignore_errors=True)
            number += 1
    finally:
        reader.close()


def _good(found: dict, name: str) -> dict:
    """The values of the sound input."""
    if found["kind"] != "read":
        raise SystemExit(f"{name}: the sound input is not read: {found}")
    return found["values"]


class Seen:
    """Counts of what cases led to, by target, and each bug once."""

    def __init__(self, seed: int, verbose: bool):
        self._seed, self._verbose = seed, verbose
        self.counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        self._bugs: set[str] = set()
        self._lock = threading.Lock()

    def add(self, name: str, number: int, what: str, found: dict) -> None:
        """Counts a case; tells a bug of a new kind."""
        kind, text = found["kind"], found.get("text", "")
        with self._lock:
            self.counts[name][kind] += 1
            places = re.findall(r'File "([^"]+)", line (\d+)', text)
            key = f"{kind} {places[-1] if places else ''} {name if not places else ''}"
            if self._verbose or (kind in BAD and key not in self._bugs):
                self._bugs.add(key)
                again = f'--seed={self._seed} --target="{name}" --case={number}'
                told = f"\n{kind}: {again}\n  {what}\n  " + text.replace("\n", "\n  ")
                say("".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in told))

    def summary(self) -> str:
        """A row per target, and one of all."""
        total: collections.Counter = sum(self.counts.values(), collections.Counter())
        rows = [["target", "cases", *GOOD, *BAD]]
        for name, count in [*sorted(self.counts.items()), ("all", total)]:
            found = [str(count[kind] or "") for kind in (*GOOD, *BAD)]
            rows.append([name, str(count.total()), *found])
        return columns(rows, right=range(1, len(rows[0])))

    @property
    def bugs(self) -> int:
        """Cases that are bugs."""
        return sum(count[kind] for count in self.counts.values() for kind in BAD)


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzzes; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=arguments.number(1), default=60, help="for all targets together"
    )
    parser.add_argument("--target", default="", help="only those whose name holds this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--case", type=arguments.whole(0), help="only this case; shows whatever it led to"
    )
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the inputs of bugs")
    parser.add_argument("--workers", type=arguments.whole(1), default=os.cpu_count())
    args = parser.parse_args(argv)
    names = [name for name in TARGETS if args.target in name]
    if not names:
        parser.error(f"no target holds {args.target!r}: there are {', '.join(TARGETS)}")
    if args.case is not None:
        names = [args.target] if args.target in TARGETS else names[:1]
    seen = Seen(args.seed, args.case is not None)
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    share = args.seconds * args.workers / len(names)
    failures: list[BaseException] = []
    with tempfile.TemporaryDirectory(prefix="fuzz_") as root:

        def work() -> None:
            while not failures:
                try:
                    name = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    run_cases(name, args, pathlib.Path(root), share, seen)
                except BaseException as error:
                    failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(args.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    say("\n" + seen.summary())
    if failures:
        raise failures[0]
    return 1 if seen.bugs else 0


if __name__ == "__main__":
    sys.exit(main())
