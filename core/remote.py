"""Files on Google Cloud Storage (gs://bucket/…) beside those of this machine.

`path` returns a pathlib.Path, or for gs:// an epath.Path, which reads and writes the same way.
Files that libraries memory-map or seek in are copied once into `cache()`: `local` copies a file,
`mirror` a folder. A copy is refreshed when the object's generation has changed. Records of region
stores are read in place, see `remote_shards`.

Objects are written atomically, folders are not: those that must be complete have a file that is
uploaded last (`new_folder`).

All of this goes through gcsfs, whether or not TensorFlow is installed, and so do Orbax' small files
and JAX's compilation cache. It retries transient errors (429, 5xx, a lost connection) five times in
half a minute, then the error is raised.
"""

import contextlib
import fcntl
import importlib.util
import json
import logging
import os
import pathlib
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

# epath would import TensorFlow where it is installed, which takes seconds and is not needed.
os.environ.setdefault("EPATH_USE_TF", "false")
# gcsfs would query another service, over gRPC, for the kind of each bucket, and retry where that
# cannot be reached. Only zonal buckets need it.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

import fsspec
import xxhash
from etils import epath

from core import strict_json
from core.errors import DataError

SCHEME = "gs://"
CACHE = "VL_CACHE"  # environment variable: folder of this machine for copies
# Cached listings would miss changes by other hosts and by tensorstore.
fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
logging.getLogger("gcsfs").setLevel(
    logging.CRITICAL
)  # logs a traceback for each error that is reported here
logging.getLogger("fsspec").setLevel(logging.CRITICAL)

Path: TypeAlias = pathlib.Path | epath.Path


def is_remote(place: str | os.PathLike) -> bool:
    """Whether a path names something that is not on this machine's file systems."""
    return "://" in os.fspath(place)


def path(place: str | os.PathLike) -> Path:
    """A path object of any place; on this machine a pathlib.Path.

    Raises:
      DataError: another scheme than gs://.
    """
    place = os.fspath(place)
    if not is_remote(place):
        return pathlib.Path(place)
    if not place.startswith(SCHEME):
        raise DataError(
            "a path of an unknown kind",
            where=place,
            expected=f"a path of this machine, or {SCHEME}bucket/…",
            found=place.partition("://")[0] + "://",
        )
    return epath.Path(place)


def absolute(place: str | os.PathLike) -> Path:
    """A path object of any place, absolute."""
    place = path(place)
    return place if is_remote(place) else place.absolute()


def cache() -> pathlib.Path:
    """Folder of this machine for copies: $VL_CACHE, or ~/.cache/vl_models."""
    named = os.environ.get(CACHE)
    return pathlib.Path(named) if named else pathlib.Path.home() / ".cache" / "vl_models"


def require(place: str | os.PathLike, what: str, *, write: bool = False) -> None:
    """Checks that the bucket of a place can be used; a place of this machine always passes.

    Args:
      place: any path.
      what: the setting it comes from, for the message.
      write: also check that an object can be written.

    Raises:
      DataError: gcsfs is not installed, no such bucket, no permission.
    """
    if not is_remote(place):
        return
    found = path(place)
    try:
        bucket = found.parts[2]
        gcs().call("GET", "b/{}/o", bucket, maxResults=1, json_out=True)
        if write:
            probe = found / f".probe-{uuid.uuid4().hex}"
            probe.write_text("")
            probe.unlink()
    except _failures() as error:
        raise DataError(
            "a bucket cannot be used",
            where=f"{what}={place}",
            expected="a bucket that may be " + ("written to" if write else "read"),
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            fix="check its name and permissions (gcloud storage ls); on your own machine: "
            "gcloud auth application-default login",
        ) from error


def refuse(place: str | os.PathLike, what: str, fix: str) -> None:
    """Checks that a place is on this machine.

    Raises:
      DataError: it is not.
    """
    if is_remote(place):
        raise DataError(
            f"{what} must be on this machine",
            where=os.fspath(place),
            expected="a path of this machine",
            found=os.fspath(place).partition("://")[0] + "://",
            fix=fix,
        )


def gcs() -> fsspec.AbstractFileSystem:
    """The file system of gs:// paths.

    Raises:
      DataError: gcsfs is not installed.
    """
    if importlib.util.find_spec("gcsfs") is None:
        raise DataError(
            f"{SCHEME} paths need the package gcsfs",
            expected="gcsfs",
            found="not installed",
            fix='pip install -c requirements.lock -e ".[gcs]"',
        )
    return fsspec.filesystem("gcs")


def _failures() -> tuple[type[Exception], ...]:
    """What reading and writing remote files raises."""
    gcs()
    import aiohttp
    from gcsfs.retry import HttpError
    from google.auth.exceptions import GoogleAuthError

    return OSError, HttpError, aiohttp.ClientError, GoogleAuthError


def local(place: str | os.PathLike) -> pathlib.Path:
    """A file of this machine with the contents of a file: itself, or a copy.

    Raises:
      FileNotFoundError: there is no such object.
      DataError: it cannot be read or kept.
    """
    if not is_remote(place):
        return pathlib.Path(place)
    url = str(path(place))
    with explained(url):
        return _copied(url, {"": gcs().info(url)})


def mirror(
    folder: str | os.PathLike, keep: Callable[[str], bool] = lambda name: True
) -> pathlib.Path:
    """A folder of this machine with the files of a folder, and of those in it: itself, or a copy.

    Args:
      folder: any.
      keep: whether a file is wanted, by its path in the folder; called for remote ones only.

    Raises:
      DataError: it cannot be read or kept.
    """
    if not is_remote(folder):
        return pathlib.Path(folder)
    url = str(path(folder))
    with explained(url):
        start = len(url.removeprefix(SCHEME)) + 1
        objects = {name[start:]: info for name, info in gcs().find(url, detail=True).items()}
        return _copied(url, {n: info for n, info in objects.items() if n and keep(n)})


def complete(folder: str | os.PathLike, last: str) -> bool:
    """Whether a folder is there; on gs:// whether its last file is, see `new_folder`."""
    folder = path(folder)
    return (folder / last if is_remote(folder) else folder).exists()


def sizes(folder: str | os.PathLike) -> dict[str, int]:
    """{name: bytes} of the files in a folder, not of those in folders in it."""
    if is_remote(folder):
        url = str(path(folder))
        with explained(url):
            return {
                name.rpartition("/")[2]: info["size"]
                for name, info in gcs().find(url, maxdepth=1, detail=True).items()
            }
    with os.scandir(os.fspath(folder)) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def working_copy(place: str | os.PathLike) -> pathlib.Path:
    """Where this machine keeps its copy of a place on gs://, whether or not it has one."""
    url = str(path(place))
    return cache() / xxhash.xxh3_64_hexdigest(url.encode()) / url.rpartition("/")[2]


def _generations(notes: pathlib.Path) -> dict[str, str]:
    """What the copies beside a file are of; {} where it does not say, so that all are made anew."""
    try:
        known = strict_json.parse(notes.read_bytes())
    except (OSError, strict_json.JSONError):
        return {}
    return known if isinstance(known, dict) else {}


def _copied(url: str, objects: Mapping[str, Mapping]) -> pathlib.Path:
    """This machine's copy of the objects {name below `url`: metadata of the object}."""
    target = working_copy(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be copying: wait for its result
        notes = target.parent / "generations.json"
        known = _generations(notes)
        wanted = {name: str(info["generation"]) for name, info in objects.items()}
        todo = [n for n in wanted if known.get(n) != wanted[n] or not (target / n).is_file()]
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            copies = [pathlib.Path(scratch, str(i)) for i in range(len(todo))]
            sources = [f"{url}/{name}" if name else url for name in todo]
            if todo:
                gcs().get(sources, [str(copy) for copy in copies])
            for name, copy in zip(todo, copies, strict=True):
                if copy.stat().st_size != objects[name]["size"]:
                    raise OSError(f"{name or url} came with {copy.stat().st_size} bytes")
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                copy.replace(target / name)
        if "" not in wanted:
            target.mkdir(exist_ok=True)
            for name in known.keys() - wanted.keys():  # deleted in the bucket
                (target / name).unlink(missing_ok=True)
        if wanted != known:
            written = notes.with_suffix(".tmp")
            written.write_text(json.dumps(wanted))
            written.replace(notes)
    return target


@contextlib.contextmanager
def explained(url: str, what: str = "read") -> Iterator[None]:
    """Context of work on gs://, whose failures become a DataError; `what` could not be done."""
    try:
        yield
    except FileNotFoundError:
        raise
    except _failures() as error:
        raise DataError(
            f"a remote file or folder cannot be {what}",
            where=url,
            expected=f"permission to do so, and space in {cache()} (${CACHE})",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        ) from error


def create(place: str | os.PathLike, data: bytes) -> bool:
    """Writes a file that is not there yet; False where it is. Of several writers one succeeds.

    Raises:
      DataError: it cannot be written on gs://.
    """
    if not is_remote(place):
        return _created(pathlib.Path(place), data)
    url = str(path(place))
    with explained(url, "written"):
        try:
            gcs().pipe_file(url, data, mode="create")
        except FileExistsError:
            return False
        except _failures() as error:
            if "412" in str(getattr(error, "code", "")) or "conditionNotMet" in str(error):
                return False
            raise
    return True


def replace(place: str | os.PathLike, data: bytes) -> None:
    """Writes a small file that may be there already: readers see the old or the new one, whole."""
    place = path(place)
    if is_remote(place):
        place.write_bytes(data)
        return
    whole = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        whole.write_bytes(data)
        whole.replace(place)
    finally:
        whole.unlink(missing_ok=True)


def _created(place: pathlib.Path, data: bytes) -> bool:
    """`create` on this machine. A link gives a name to the whole file at once."""
    place.parent.mkdir(parents=True, exist_ok=True)
    whole = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        whole.write_bytes(data)
        with contextlib.suppress(OSError):  # of a file system without links
            os.link(whole, place)
            return True
        with open(place, "xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    finally:
        whole.unlink(missing_ok=True)
    return True


def upload(file: pathlib.Path, place: str | os.PathLike) -> None:
    """Writes an object from a file.

    Raises:
      DataError: it cannot be written.
    """
    url = str(path(place))
    with explained(url, "written"):
        gcs().put_file(str(file), url)


def upload_folder(source: pathlib.Path, folder: str | os.PathLike, *, last: str) -> None:
    """Writes the files of a folder of this machine to one on gs://, the file `last` at the end.

    Raises:
      DataError: they cannot be written.
    """
    url = str(path(folder))
    files = [file for file in sorted(source.rglob("*")) if file.is_file()]
    names = [str(file.relative_to(source)) for file in files]
    if last not in names:
        raise ValueError(f"{url} would have no {last}, found {names[:10]}")
    with explained(url, "written"):
        for some in ([name for name in names if name != last], [last]):
            gcs().put([f"{source}/{n}" for n in some], [f"{url}/{n}" for n in some])


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike, *, last: str) -> Iterator[pathlib.Path]:
    """Gives a folder of this machine, and uploads what is in it at the end; nothing after an error.

    Args:
      folder: gs://.
      last: the file that marks a complete folder, uploaded after all others.
    """
    (cache() / "new").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache() / "new") as scratch:
        yield pathlib.Path(scratch)
        upload_folder(pathlib.Path(scratch), folder, last=last)
