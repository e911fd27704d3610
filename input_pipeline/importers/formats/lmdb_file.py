"""LMDB databases of images: opening, cutting into key ranges, reading. Base of three layouts.

LMDB trusts its files. A file that is shorter than its own page count is found when it is opened
(reading on would end the process with SIGBUS), a damaged page where LMDB notices it; bytes changed
inside a page may go unnoticed by LMDB and show as a bad record.
"""

import contextlib
import os
import weakref
from collections.abc import Iterator, Sequence

import lmdb

from core.console import warn
from core.errors import DataError
from input_pipeline.importers.base import Item, Part


def _data_file(path: str) -> str:
    return os.path.join(path, "data.mdb") if os.path.isdir(path) else path


def _unreadable(path: str, found: str) -> DataError:
    return DataError(
        "not a readable LMDB database",
        where=path,
        expected="an LMDB file, or a folder with data.mdb",
        found=found,
        fix="check the path, and copy it again; a database that is whole but ends in freed pages "
        "can be as short: compact it with `mdb_copy -c`",
    )


# LMDB refuses to open a file twice in a process, and an error's traceback can keep one open.
_open_ones: weakref.WeakValueDictionary[tuple, lmdb.Environment] = weakref.WeakValueDictionary()


def _environment(path: str) -> lmdb.Environment:
    """The database of a path, checked to be as long as it says."""
    file = os.path.realpath(_data_file(path))
    status = os.stat(file)
    key = (file, status.st_ino, status.st_size, status.st_mtime_ns)
    environment = _open_ones.get(key)
    if environment is None:
        environment = lmdb.open(
            path,
            subdir=os.path.isdir(path),
            readonly=True,
            lock=False,  # nobody writes, and the folder may be read-only
            create=False,
            readahead=True,  # a value fills about 75 neighbouring pages
        )
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if status.st_size < needed:
            raise _unreadable(
                path, f"{status.st_size:,} bytes of at least {needed:,}: it is cut short"
            )
        _open_ones[key] = environment
    return environment


@contextlib.contextmanager
def opened(path: str) -> Iterator[lmdb.Transaction]:
    """A read transaction on a database: a folder with data.mdb, or one file (tensorpack).

    Raises:
      DataError: not an LMDB, cut short, or damaged as far as LMDB notices while in use.
    """
    try:
        with _environment(path).begin() as transaction:
            yield transaction
    except (lmdb.Error, OSError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error


class LmdbLayout:
    """What the layouts in LMDB databases share; a layout adds `listed` and `parse`.

    A part is a range of keys, counted without the key of the list. `raw` of an entry is
    (key, value), both bytes.

    Attributes:
      list_key: key of the record that lists the others' keys, written last.
    """

    unit = "images"
    background_class = 0  # of bottom-up attention's 1,601 classes
    list_key: bytes

    def __init__(self, files: Sequence[str]):
        if not files:
            raise DataError("nothing to import", expected="one or more databases", found="none")
        self.files = [os.fspath(path) for path in files]
        for path in self.files:
            with opened(path):
                pass

    def listed(self, where: str, raw: bytes) -> list[bytes]:
        """The keys that the list names.

        Raises:
          DataError: the list cannot be read.
        """
        raise NotImplementedError

    def parse(self, where: str, raw: tuple[bytes, bytes]) -> Item:
        """See `base.Layout`."""
        raise NotImplementedError

    def parts(self, size: int) -> list[Part]:
        """Cuts each database into key ranges of about `size` bytes.

        Raises:
          DataError: no records, or other keys than the list of keys names.
        """
        return [part for file in range(len(self.files)) for part in self._parts_of(file, size)]

    def _parts_of(self, file: int, size: int) -> list[Part]:
        path = self.files[file]
        with opened(path) as transaction:
            raw = transaction.get(self.list_key)
            where = f"{path}, key {self.list_key.decode()!r}"
            unseen = None if raw is None else set(self.listed(where, raw))
            listed = unseen and len(unseen)
            records = transaction.stat()["entries"] - (raw is not None)
            step = max(1, records * size // os.path.getsize(_data_file(path)))
            firsts, unlisted = [], []
            keys = transaction.cursor().iternext(values=False)
            for i, key in enumerate(key for key in keys if key != self.list_key):
                if i % step == 0:
                    firsts.append(key)
                if unseen is not None and key not in unseen:
                    unlisted.append(key)
                elif unseen is not None:
                    unseen.discard(key)
        if unseen is None:
            warn(
                f"{path} has no list of keys ({self.list_key.decode()!r}): what wrote it did not "
                f"finish. Its {records:,} records are read; there may have been more to come."
            )
        elif unseen or unlisted:
            raise DataError(
                "a database and its list of keys disagree",
                where=where,
                expected=f"the same keys in both; the list has {listed:,}",
                found=f"{records:,} records; {len(unseen):,} listed keys have no record, "
                f"{len(unlisted):,} records are not listed, such as "
                f"{(unlisted or sorted(unseen))[0]!r}",
                fix="make or copy the database again",
            )
        if not records:
            raise DataError("a database is empty", where=path, expected="images", found="none")
        return [
            Part(file, i * step, min((i + 1) * step, records), os.fsdecode(key))
            for i, key in enumerate(firsts)
        ]

    def entries(self, part: Part) -> Iterator[tuple[str, tuple[bytes, bytes]]]:
        """See `base.Layout`; `raw` is (key, value)."""
        path = self.files[part.file]
        with opened(path) as transaction:
            cursor, left = transaction.cursor(), part.stop - part.start
            if cursor.set_key(os.fsencode(part.key)):
                for key, value in cursor.iternext():
                    if key == self.list_key:
                        continue
                    yield f"{path}, key {os.fsdecode(key)!r}", (key, value)
                    left -= 1
                    if not left:
                        return
        raise DataError(
            "a database has changed since its parts were planned",
            where=f"{path}, key {part.key!r}",
            expected=f"{part.stop - part.start} records from this key on",
            found=f"{part.stop - part.start - left}",
            fix="remove the unfinished import and start again",
        )
