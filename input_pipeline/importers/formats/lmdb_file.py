"""LMDB databases of images: opening, cutting into key ranges, reading. Base of the LMDB layouts.

A file is read by `lmdb_pages`, which survives any damage: a file that is shorter than its own page
count, a page that is not what the tree says. Bytes changed inside a value show as a bad record.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence

from core.errors import DataError
from core.reading import attempt, reading
from input_pipeline.importers.base import Item, Part
from input_pipeline.importers.formats.inputs import MAX_LIST
from input_pipeline.importers.formats.lmdb_pages import Database

# Under which key one of the writers lists the keys, so that files of another are told apart.
LIST_KEYS = (b"keys", b"__keys__")


def _data_file(path: str) -> str:
    return os.path.join(path, "data.mdb") if os.path.isdir(path) else path


@contextlib.contextmanager
def opened(path: str) -> Iterator[Database]:
    """A database for reading: a folder with data.mdb, or one file (tensorpack).

    Raises:
      DataError: not an LMDB, cut short, or damaged.
    """
    with reading(
        path,
        "not a readable LMDB database",
        expected="an LMDB file, or a folder with data.mdb",
        fix="check the path, and copy it again; a database that is whole but ends in freed pages "
        "can be as short: compact it with `mdb_copy -c`",
    ):
        database = Database(_data_file(path))
        try:
            yield database
        finally:
            database.close()


class LmdbLayout:
    """What the layouts in LMDB databases share; a layout adds `listed` and `parse`.

    A part is a range of keys, counted without the key of the list. `raw` of an entry is
    (key, value), both bytes.

    Attributes:
      list_key: key of the record that lists the others' keys, written last.
      notices: what is to be told once these files are known to be of this layout.
    """

    unit = "images"
    background_class = 0  # of bottom-up attention's 1,601 classes
    list_key: bytes

    def __init__(self, files: Sequence[str]):
        if not files:
            raise DataError("nothing to import", expected="one or more databases", found="none")
        self.files = [os.fspath(path) for path in files]
        self.notices: dict[str, None] = {}
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
        with opened(path) as database:
            raw = database.get(self.list_key, MAX_LIST)
            where = f"{path}, key {self.list_key.decode()!r}"
            unseen = None if raw is None else set(self.listed(where, raw))
            listed = unseen and len(unseen)
            records = database.entries - (raw is not None)
            step = max(1, records * size // database.nbytes)
            firsts, unlisted, count = [], [], 0
            for key in database:
                if key == self.list_key:
                    continue
                if count % step == 0:
                    firsts.append(key)
                count += 1
                if unseen is not None and key not in unseen:
                    unlisted.append(key)
                elif unseen is not None:
                    unseen.discard(key)
            if count != records:
                raise ValueError(f"{count:,} records of {records:,}")
            others = [key for key in LIST_KEYS if key != self.list_key]
            other = next((key for key in others if database.get(key, MAX_LIST) is not None), None)
        if unseen is None and other is not None:
            raise DataError(
                "a database of another layout",
                where=path,
                expected=f"the list of its keys under {self.list_key.decode()!r}",
                found=f"a list under {other.decode()!r}",
                fix="see `python -m input_pipeline.importers --help` for the other layouts",
            )
        if unseen is None:
            self.notices.setdefault(
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

    def entries(self, part: Part) -> Iterator[tuple[str, tuple[bytes, bytes] | DataError]]:
        """See `base.Layout`; `raw` is (key, value)."""
        path = self.files[part.file]
        left = part.stop - part.start
        with opened(path) as database:
            for key, place in database.places(os.fsencode(part.key)):
                if key == self.list_key:
                    continue
                if left == part.stop - part.start and os.fsdecode(key) != part.key:
                    break
                where = f"{path}, key {os.fsdecode(key)!r}"
                raw = attempt(where, lambda key=key, place=place: (key, database.value(place)))
                yield where, raw
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
