"""Reads damaged inputs of one target, one after the other, under limits; started by `fuzz.py`.

  python scripts/fuzzing/child.py TARGET SOUND

SOUND is the folder of the sound input, which is made where it is not there. Numbers and folders of
cases come by standard input, one a line; one line of JSON goes out for each.
"""

import json
import os
import pathlib
import resource
import sys
import traceback
from unicodedata import category

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from core.errors import UserError
from scripts.fuzzing import targets

LONGEST = 20_000  # characters of a message that a person can be asked to read


def outcome(target: targets.Target, folder: pathlib.Path, number: int) -> dict:
    """What reading an input led to: {"kind", "text", "values"}."""
    try:
        return dict(kind="read", values=target.read(folder, number))
    except UserError as error:
        text = "\n".join([str(error), *getattr(error, "__notes__", ())])
        readable = len(text) < LONGEST and all(map(_shows, text))
        return dict(kind="refused" if readable else "unreadable message", text=text[:2000])
    except BaseException as error:
        text = "".join(traceback.format_exception(error, limit=-6, chain=False))
        return dict(kind="traceback", text=text[-3000:])


def _shows(character: str) -> bool:
    """Whether a terminal shows a character, and does not obey or hide it."""
    return character in "\n\t" or character.isprintable() or category(character) == "Zs"


def main(name: str, sound: str) -> None:
    """Serves the cases of a target."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    target, folder = targets.TARGETS[name], pathlib.Path(sound)
    if not folder.is_dir():
        folder.mkdir(parents=True)
        target.write(folder)
    target.prepare()
    target.read(folder, 0)  # imports what it needs before the limits hold
    # Private memory alone: files that are mapped do not count.
    limit = target.megabytes * 2**20 + _private()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        number, _, place = line.rstrip("\n").partition(" ")
        found = outcome(target, pathlib.Path(place), int(number))
        print(json.dumps(found), file=answers, flush=True)


def _private() -> int:
    """Bytes of private memory now."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))


if __name__ == "__main__":
    main(*sys.argv[1:])
