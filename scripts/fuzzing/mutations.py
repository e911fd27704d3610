"""Damages the files of an input, reproducibly.

Files that pack others (gzip, zip, npz, LMDB) are damaged half of the time inside: their checksums
would stop most of what happens to the packed bytes.
"""

import gzip
import io
import os
import pathlib
import random
import re
import shutil
import struct
import zipfile

NUMBERS = (
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"Infinity",
    b"0.5",
    b"2147483648",
    b"1" * 25,
    b"7" * 4400,
)
STRINGS = (
    b"",
    b" ",
    b"\\ud800",
    b"\\u0000",
    b"\x1b[31mred",
    "\u202etxet".encode(),
    "\u2028".encode(),
    b"../../../etc/passwd",
    b"/etc/passwd",
    b"x" * 300,
    b"\xff\xfe",
)
INTEGERS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
NESTED = b"[" * 3000 + b"]" * 3000
LARGEST = 4_000_000  # bytes of a file after a mutation


def damage(folder: pathlib.Path, rng: random.Random) -> str:
    """Damages one to three places of the files of a folder; returns what was done."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            break
        path = rng.choice(files)
        name = path.relative_to(folder)
        if rng.random() < 0.06:
            done.append(f"{name}: {_structure(path, files, rng)}")
            continue
        # First of all: a container that is damaged already may not open, or (LMDB) end the process.
        inside = _INSIDE.get(_kind(path)) if not done and rng.random() < 0.5 else None
        done.append(f"{name}: {inside(path, rng) if inside else _file(path, rng)}")
    return "; ".join(done)


def damaged(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Bytes with one place changed, and what was done."""
    for _ in range(20):
        operation = rng.choice(_OPERATIONS)
        changed = operation(data, rng)
        if changed is not None and changed != data:
            return changed[:LARGEST], operation.__name__.strip("_")
    return data + b"\0", "append"


def _file(path: pathlib.Path, rng: random.Random) -> str:
    changed, what = damaged(path.read_bytes(), rng)
    path.write_bytes(changed)
    return what


def _structure(path: pathlib.Path, files: list[pathlib.Path], rng: random.Random) -> str:
    """Takes a file away, or puts something else in its place."""
    what = rng.choice(("deleted", "emptied", "a folder", "another file", "twice as long"))
    if what == "emptied":
        path.write_bytes(b"")
    elif what == "another file":
        shutil.copyfile(rng.choice(files), f"{path}.new")
        os.replace(f"{path}.new", path)
    elif what == "twice as long":
        path.write_bytes((path.read_bytes() * 2)[:LARGEST])
    else:
        path.unlink()
        if what == "a folder":
            path.mkdir()
    return what


def _kind(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        start = file.read(20)
    if start[:2] == b"\x1f\x8b":
        return "gzip"
    if start[:4] == b"PK\x03\x04":
        return "zip"
    return "lmdb" if start[16:20] == b"\xde\xc0\xef\xbe" else ""


def _in_gzip(path: pathlib.Path, rng: random.Random) -> str:
    changed, what = damaged(gzip.decompress(path.read_bytes()), rng)
    path.write_bytes(gzip.compress(changed))
    return f"unpacked, {what}"


def _in_zip(path: pathlib.Path, rng: random.Random) -> str:
    with zipfile.ZipFile(path) as file:
        members = [(info, file.read(info)) for info in file.infolist()]
    at = rng.randrange(len(members))
    changed, what = damaged(members[at][1], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for i, (info, data) in enumerate(members):
            file.writestr(info, changed if i == at else data)
    path.write_bytes(out.getvalue())
    return f"{members[at][0].filename}, {what}"


def _in_lmdb(path: pathlib.Path, rng: random.Random) -> str:
    import lmdb

    options = dict(subdir=False, lock=False, map_size=2**24)
    with (
        lmdb.open(str(path), **options) as environment,
        environment.begin(write=True) as transaction,
    ):
        key, value = rng.choice(list(transaction.cursor()))
        changed, what = damaged(value, rng)
        if rng.random() < 0.2:
            transaction.delete(key)
            key = damaged(key, rng)[0][:500] or b"\0"
        transaction.put(key, changed)
    return f"value of {key[:20]!r}, {what}"


_INSIDE = {"gzip": _in_gzip, "zip": _in_zip, "lmdb": _in_lmdb}


def _range(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 64, 1000)))


def _flip(data: bytes, rng: random.Random) -> bytes | None:
    if not data:
        return None
    out = bytearray(data)
    out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _overwrite(data: bytes, rng: random.Random) -> bytes | None:
    if not data:
        return None
    start, stop = _range(data, rng)
    fill = rng.choice((b"\0", b"\xff", None))
    new = rng.randbytes(stop - start) if fill is None else fill * (stop - start)
    return data[:start] + new + data[stop:]


def _cut(data: bytes, rng: random.Random) -> bytes | None:
    return data[: rng.randrange(len(data))] if data else None


def _remove(data: bytes, rng: random.Random) -> bytes | None:
    if not data:
        return None
    start, stop = _range(data, rng)
    return data[:start] + data[stop:]


def _repeat(data: bytes, rng: random.Random) -> bytes | None:
    if not data:
        return None
    start, stop = _range(data, rng)
    return data[:stop] + data[start:stop] * rng.choice((1, 3, 1000)) + data[stop:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((rng.randbytes(8), NESTED, *STRINGS)) + data[at:]


def _integer(data: bytes, rng: random.Random) -> bytes | None:
    """Overwrites an aligned binary integer."""
    size = rng.choice((2, 4, 8))
    if len(data) < size:
        return None
    at = rng.randrange(0, len(data) - size + 1, rng.choice((1, size)))
    value = rng.choice(INTEGERS) & (2 ** (8 * size) - 1)
    code = {2: "H", 4: "I", 8: "Q"}[size]
    return data[:at] + struct.pack(rng.choice("<>") + code, value) + data[at + size :]


def _number(data: bytes, rng: random.Random) -> bytes | None:
    """Replaces a number that is written in digits."""
    return _replace(rb"-?\d+(\.\d+)?", NUMBERS, data, rng)


def _string(data: bytes, rng: random.Random) -> bytes | None:
    """Replaces a quoted string."""
    found = _replace(rb'(?<=")[^"\n]{0,200}(?=")', STRINGS, data, rng)
    return found or _replace(rb"(?<=')[^'\n]{0,200}(?=')", STRINGS, data, rng)


def _value(data: bytes, rng: random.Random) -> bytes | None:
    """Replaces a JSON value by one of another kind."""
    values = (b"null", b"true", b"[]", b"{}", b'"x"', b"[[]]", b"1.5", NESTED)
    return _replace(
        rb"(?<=: )(-?\d+(\.\d+)?|\"[^\"\n]{0,200}\"|\[[^\[\]]{0,200}\])", values, data, rng
    )


def _replace(
    pattern: bytes, by: tuple[bytes, ...], data: bytes, rng: random.Random
) -> bytes | None:
    found = list(re.finditer(pattern, data[:200_000]))
    if not found:
        return None
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(by) + data[match.end() :]


_OPERATIONS = (
    _flip,
    _flip,
    _overwrite,
    _cut,
    _remove,
    _repeat,
    _insert,
    _integer,
    _integer,
    _number,
    _number,
    _string,
    _value,
)
