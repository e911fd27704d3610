"""Files of a folder or members of a zip, by number, in an order that never changes.

Python's zipfile keeps an object a member: for the three million members of VL-BERT's features it
takes 2 GB and 17 s in every process. Here a member costs 16 bytes, and the directory is read in a
stream. A folder's names are held in memory (about 100 bytes each).

Hidden files are left out (macOS puts `._x.json` beside `x.json` in its zips).
"""

import array
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NoReturn

from core.errors import DataError
from core.reading import reading
from input_pipeline.importers.formats.inputs import MAX_RECORD

_END = struct.Struct("<4s4H2IH")  # PK56, disks and counts, size and offset of the directory
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s6H3I5H2I")  # an entry of the directory, without name and extra fields
_LOCAL = struct.Struct("<4s5H3I2H")  # the header before a member's bytes
_BIG = 0xFFFFFFFF  # a 32-bit field that says: see the 64-bit one
MAX_MEMBER = MAX_RECORD


def list_files(
    folder: str, suffixes: Sequence[str], *, any_case: bool = False
) -> list[tuple[str, int]]:
    """Sorted (path relative to the folder, bytes) of its files with a suffix, in subfolders too.

    Args:
      folder: where to look.
      suffixes: ends of the names.
      any_case: upper and lower case in suffixes are the same.

    Raises:
      DataError: a subfolder cannot be read or is a link (it might lead in a circle), or there is
        no such file.
    """

    def fail(error: OSError) -> NoReturn:
        raise DataError(
            "a folder cannot be read", where=str(error.filename), found=str(error)
        ) from error

    found = []
    for path, folders, names in os.walk(folder, onerror=fail):
        for name in folders:
            if os.path.islink(os.path.join(path, name)):
                raise DataError(
                    "a subfolder is a link",
                    where=os.path.join(path, name),
                    expected="a real folder",
                    found="a symbolic link",
                    fix="name the folder that it leads to as a further input, and move the link",
                )
        below = os.path.relpath(path, folder).removeprefix(os.curdir)
        for name in names:
            known = name.lower() if any_case else name
            if known.endswith(tuple(suffixes)) and not name.startswith("."):
                try:
                    size = os.path.getsize(os.path.join(path, name))
                    found.append((os.path.join(below, name), size))
                except OSError as error:
                    fail(error)
    if not found:
        raise _empty(folder, suffixes)
    return sorted(found)


def expanded(paths: Sequence[str], suffixes: Sequence[str], kind: str) -> list[str]:
    """The files, and those in folders.

    Args:
      paths: files, and folders of them.
      suffixes: one of which a file has.
      kind: what such a file is, for messages.

    Raises:
      DataError: none, or one that is no such file.
    """
    if not paths:
        raise DataError("nothing to import", expected=f"{kind}s or folders of them", found="none")
    found = []
    for path in paths:
        if os.path.isdir(path):
            found += [os.path.join(path, name) for name, _ in list_files(path, suffixes)]
        elif os.path.isfile(path) and path.lower().endswith(tuple(suffixes)):
            found.append(path)
        else:
            raise DataError(
                f"an input is no {kind}",
                where=path,
                expected=f"a file that ends in {' or '.join(suffixes)}, or a folder of them",
                found="another file" if os.path.exists(path) else "nothing at this path",
            )
    return found


def read_file(path: str) -> bytes | DataError:
    """The bytes of a file, or the error to raise when its image is parsed."""
    try:
        with reading(path):
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
                raise ValueError("no regular file")
            if status.st_size > MAX_RECORD:
                raise ValueError(f"{status.st_size:,} bytes, more than {MAX_RECORD:,}")
            with open(path, "rb") as file:
                return file.read(MAX_RECORD)
    except DataError as error:
        return error


class FolderMembers:
    """The files of a folder.

    Attributes:
      names: relative paths.
      sizes: bytes of each.
    """

    def __init__(self, path: str, suffix: str):
        files = list_files(path, [suffix])
        self.path = path
        self.names, self.sizes = [name for name, _ in files], [size for _, size in files]

    def read(self, start: int, stop: int) -> Iterator[tuple[str, str, bytes | DataError]]:
        """(where, name, bytes or error) of members start : stop."""
        for name in self.names[start:stop]:
            full = os.path.join(self.path, name)
            yield full, name, read_file(full)


class ZipMembers(Sequence):
    """The members of a zip; `ZipMembers[i]` is a name.

    Attributes:
      names: this object, for the same use as a folder's.
      sizes: bytes of each in the archive.

    Raises:
      DataError: no zip, one cut short, a damaged directory, or no such member.
    """

    def __init__(self, path: str, suffix: str):
        self.path, self.names = path, self
        self.sizes, self._at = array.array("q"), array.array("q")
        with open(path, "rb") as file:
            offset, size = self._directory(file)
            file.seek(offset)
            at = offset
            while at < offset + size:
                entry, name, extra = self._entry(file, at)
                base = name.rpartition("/")[2]
                if base.endswith(suffix) and not base.startswith("."):
                    self._at.append(at)
                    self.sizes.append(_places(entry, extra)[1])
                at += _ENTRY.size + entry[10] + entry[11] + entry[12]
            total = file.seek(0, os.SEEK_END)
        if not self._at:
            raise _empty(path, [suffix])
        if sum(self.sizes) > total:
            raise self._broken(f"members of {sum(self.sizes):,} bytes, packed, in {total:,}")

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, number: int) -> str:
        with open(self.path, "rb") as file:
            file.seek(self._at[number])
            return self._entry(file, self._at[number])[1]

    def read(self, start: int, stop: int) -> Iterator[tuple[str, str, bytes | DataError]]:
        """(where, name, bytes or error) of members start : stop.

        A member that cannot be unpacked gives the error in place of its bytes: the next ones can.
        """
        with open(self.path, "rb") as file:
            for at in self._at[start:stop]:
                file.seek(at)
                entry, name, extra = self._entry(file, at)
                where = f"{self.path}@/{name}"
                try:
                    data = _unpack(file, entry, name, extra)
                except Exception as error:
                    data = DataError(
                        "a member of a zip is damaged",
                        where=where,
                        expected="bytes that unpack and fit their checksum",
                        found=f"{type(error).__name__}: {error}",
                        fix="copy the zip again, or leave this image out",
                    )
                yield where, name, data

    def _broken(self, found: object) -> DataError:
        return DataError(
            "not a readable zip",
            where=self.path,
            expected="a whole zip archive in one file",
            found=found,
            fix="check the path, or copy the file again",
        )

    def _directory(self, file: BinaryIO) -> tuple[int, int]:
        """(offset, bytes) of the directory, which stands at the end of the archive."""
        total = file.seek(0, os.SEEK_END)
        start = max(0, total - _END.size - 2**16)  # a comment of up to 64 kB follows the record
        file.seek(start)
        tail = file.read()
        found = tail.rfind(b"PK\x05\x06")
        if found < 0 or len(tail) - found < _END.size:
            raise self._broken(f"{total} bytes without the record that ends a zip: cut short?")
        end = start + found
        _, disk, _, here, count, size, offset, _ = _END.unpack_from(tail, found)
        if end >= _LOCATOR.size:
            file.seek(end - _LOCATOR.size)
            mark, disk64, place, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
            if mark == b"PK\x06\x07":
                file.seek(place)
                record = file.read(_END64.size)
                if len(record) < _END64.size or record[:4] != b"PK\x06\x06":
                    raise self._broken("a damaged 64-bit end record")
                *_, here, count, size, offset = _END64.unpack(record)
                disk, end = disk64, place
        if disk or here != count:
            raise self._broken("one of several parts of an archive")
        if offset + size != end:
            raise self._broken(f"a directory of {size} bytes at {offset}, but it ends at {end}")
        return offset, size

    def _entry(self, file: BinaryIO, at: int) -> tuple[tuple, str, bytes]:
        """(fields, name, extra fields) of the directory's entry at the file's position."""
        data = file.read(_ENTRY.size)
        if len(data) < _ENTRY.size or data[:4] != b"PK\x01\x02":
            raise self._broken(f"a damaged directory at byte {at}")
        entry = _ENTRY.unpack(data)
        rest = file.read(entry[10] + entry[11] + entry[12])
        name = _decode(rest[: entry[10]], entry)
        return entry, name, rest[entry[10] : entry[10] + entry[11]]


def _decode(name: bytes, entry: tuple) -> str:
    """The name; bytes that are not UTF-8 are kept as halves of surrogate pairs, which no id has."""
    return name.decode("utf-8" if entry[3] & 0x800 else "cp437", "surrogateescape")


def _places(entry: tuple, extra: bytes) -> tuple[int, int, int]:
    """(bytes unpacked, bytes packed, offset), from the 64-bit extra field where there is one."""
    places = [entry[9], entry[8], entry[16]]
    while len(extra) >= 4 and _BIG in places:
        kind, size = struct.unpack_from("<2H", extra)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{size // 8}Q", extra, 4))
            places = [next(values, _BIG) if place == _BIG else place for place in places]
            break
        extra = extra[4 + size :]
    return tuple(places)


def _unpack(file: BinaryIO, entry: tuple, name: str, extra: bytes) -> bytes:
    """The bytes of a member; raises ValueError or zlib.error where they are not as promised."""
    flags, method, checksum = entry[3], entry[4], entry[7]
    unpacked, packed, offset = _places(entry, extra)
    if flags & 1:
        raise ValueError("encrypted")
    if method not in (0, 8):
        raise ValueError(f"compression method {method}; only stored and deflated are read")
    if max(unpacked, packed) > MAX_MEMBER:
        raise ValueError(f"{max(unpacked, packed)} bytes, more than {MAX_MEMBER}")
    file.seek(offset)
    local = _LOCAL.unpack(file.read(_LOCAL.size))
    if local[0] != b"PK\x03\x04":
        raise ValueError("no header where the directory says")
    if _decode(file.read(local[9]), entry) != name:  # the directory has no checksum of its own
        raise ValueError("another name in its header than in the directory")
    file.seek(local[10], os.SEEK_CUR)
    data = file.read(packed)
    if len(data) != packed:
        raise ValueError(f"{len(data)} of {packed} bytes")
    if method == 8:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, unpacked + 1)
    if len(data) != unpacked:
        raise ValueError(f"unpacks to other than {unpacked} bytes")
    if zlib.crc32(data) != checksum:
        raise ValueError(f"CRC {zlib.crc32(data):08x}, not {checksum:08x}")
    return data


def _empty(path: str, suffixes: Sequence[str]) -> DataError:
    return DataError(
        "an input holds no files of this layout",
        where=path,
        expected=f"files that end in {' or '.join(suffixes)}, also in subfolders",
        found="none",
        fix="check the path and the layout's name",
    )
