"""Whole folders on Google Cloud Storage: what is in them, copying, removing (see `remote`)."""

import errno
import os
import pathlib
import shutil
from collections.abc import Mapping

import xxhash

from core import remote


def objects(place: str | os.PathLike) -> dict[str, tuple[int, str]]:
    """{name below a folder, "" of a file itself: (bytes, generation)}; {} where there is nothing.

    Raises:
      DataError: it cannot be read.
    """
    url = str(remote.path(place)).rstrip("/")
    with remote.explained(url):
        found = remote.gcs().find(url, detail=True)
    start = len(url.removeprefix(remote.SCHEME))
    return {
        name[start:].removeprefix("/"): (int(info["size"]), str(info["generation"]))
        for name, info in found.items()
    }


def stamp(place: str | os.PathLike) -> tuple[str, int, int]:
    """(place, bytes, a number that changes with any of its objects) of a file or folder.

    Raises:
      FileNotFoundError: there is none.
    """
    found = objects(place)
    if not found:
        raise FileNotFoundError(errno.ENOENT, "no such object, and no folder of that name")
    named = "\n".join(f"{name} {generation}" for name, (_, generation) in sorted(found.items()))
    digest = xxhash.xxh3_64_intdigest(named.encode())
    return str(place), sum(size for size, _ in found.values()), digest


def download(place: str | os.PathLike, target: pathlib.Path) -> None:
    """Copies a file, or a folder with all that is in it, to a new path of this machine.

    Raises:
      DataError: it cannot be read, there is nothing, or this machine's disk is full.
    """
    url = str(remote.path(place)).rstrip("/")
    found = objects(url)
    names = {name: target / name if name else target for name in found if name[-1:] != "/"}
    for path in {path.parent for path in names.values()}:
        path.mkdir(parents=True, exist_ok=True)
    with remote.explained(url):
        if not names:
            raise OSError("there is no such object, and no folder of that name")
        sources = [f"{url}/{name}" if name else url for name in names]
        remote.gcs().get(sources, [str(path) for path in names.values()])
        for name, path in names.items():
            if path.stat().st_size != found[name][0]:
                raise OSError(f"{name or url} came with {path.stat().st_size} bytes")


def copy(urls: Mapping[str, str]) -> None:
    """Copies objects {from: to} within gs://; their bytes do not pass through this machine.

    Raises:
      DataError: one cannot be copied.
    """
    if urls:
        with remote.explained(next(iter(urls.values())), "written"):
            remote.gcs().copy(list(urls), list(urls.values()))


def remove(place: str | os.PathLike) -> None:
    """Removes a folder of this machine or gs://, with all that is in it.

    Raises:
      DataError: it cannot be removed from gs://.
      OSError: it cannot be removed here.
    """
    if not remote.is_remote(place):
        shutil.rmtree(place)
        return
    url = str(remote.path(place)).rstrip("/")
    names = [f"{url}/{name}" for name in objects(url)]
    if names:
        with remote.explained(url, "removed"):
            remote.gcs().rm(names)
