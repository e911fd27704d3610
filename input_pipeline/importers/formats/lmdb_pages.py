"""The pages of an LMDB file, read with checked reads instead of a memory map.

LMDB trusts its files: it maps them into memory, and a damaged page number, or a file that is cut
while it is read, ends the process with SIGBUS. Here every page is read by its place in the file and
must say which page it is, every offset must lie within its page, and keys must rise.

The format is that of LMDB 0.9 on 64-bit little-endian machines (data version 1): two meta pages of
which the one with the higher transaction counts, a B+ tree, and large values on pages of their own.
"""

import bisect
import os
import stat
import struct
from collections.abc import Iterator
from typing import NamedTuple

from input_pipeline.importers.formats.inputs import MAX_RECORD

_META = struct.Struct("<IIQQ 48s 48s QQ")  # magic, version, address, map size, 2 trees, last, txn
_TREE = struct.Struct("<IHH5Q")  # page size or 0, flags, depth, 3 counts of pages, entries, root
_PAGE = struct.Struct("<QHHHH")  # number, unused, kind, end of the pointers, start of the nodes
_NODE = struct.Struct("<4H")  # low and high half of a size or page, flags, bytes of the key
_MAGIC, _VERSION, _NO_PAGE = 0xBEEFC0DE, 1, 2**64 - 1
_BRANCH, _LEAF, _LARGE = 1, 2, 4
_KINDS = 0x6F  # all kinds of pages
_ON_PAGES_OF_ITS_OWN, _TREE_INSIDE = 1, 6  # flags of a node
_MAX_DEPTH = 32  # LMDB's own limit


class Place(NamedTuple):
    """Where a value is.

    Attributes:
      size: bytes of the value.
      data: its bytes, where they are beside its key; else empty.
      page: number of its first page, where it has pages of its own; else 0.
    """

    size: int
    data: bytes
    page: int


class Database:
    """The unnamed database of an LMDB file.

    Attributes:
      entries: how many records it says it has.
      nbytes: of the file.
    """

    def __init__(self, path: str):
        """Opens the file; `close` is for the caller.

        Raises:
          OSError: it cannot be opened.
          ValueError: not an LMDB file, or one that is shorter than its own count of pages.
        """
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not wait for a writer
        try:
            status = os.fstat(self._file)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("no regular file")
            self.nbytes = status.st_size
            self._page_size, self._last, tree = self._newest_meta()
        except BaseException:
            self.close()
            raise
        _, flags, self._depth, *_, self.entries, self._root = _TREE.unpack(tree)
        needed = (self._last + 1) * self._page_size
        problem = ""
        if self.nbytes < needed:
            problem = f"{self.nbytes:,} bytes of at least {needed:,}: it is cut short"
        elif flags & 0x7FFF:
            problem = f"keys that are ordered in another way (flags {flags:#x})"
        elif self._depth > _MAX_DEPTH:
            problem = f"a tree of depth {self._depth}"
        if problem:
            self.close()
            raise ValueError(problem)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def get(self, key: bytes, limit: int = MAX_RECORD) -> bytes | None:
        """The value of a key, None without one; `limit` as of `value`."""
        found = next(self._nodes(key), None)
        return self.value(found[1], limit) if found and found[0] == key else None

    def __iter__(self) -> Iterator[bytes]:
        """All keys, rising."""
        return (key for key, _ in self._nodes())

    def places(self, first: bytes) -> Iterator[tuple[bytes, Place]]:
        """(key, place of its value) of all records from a key on."""
        return self._nodes(first)

    def value(self, place: Place, limit: int = MAX_RECORD) -> bytes:
        """The value at a place, of at most `limit` bytes.

        Raises:
          ValueError: its pages are damaged, or it is larger than any image's record.
        """
        size, data, number = place
        if size > limit:
            raise ValueError(f"a value of {size:,} bytes, more than {limit:,}")
        if not number:
            if len(data) < size:
                raise ValueError("a value beyond its page")
            return data
        head = self._read(number, 16 + size)
        found, _, kind, low, high = _PAGE.unpack_from(head)
        pages = low | high << 16
        last = number + pages - 1
        if found != number or kind & _KINDS != _LARGE or last > self._last:
            raise ValueError(f"page {number} is no first page of a value")
        if 16 + size > pages * self._page_size:
            raise ValueError(f"{pages} pages for a value of {size:,} bytes")
        return head[16:]

    def _read(self, number: int, size: int) -> bytes:
        """`size` bytes from the start of a page."""
        if not 2 <= number <= self._last:
            raise ValueError(f"page {number} of {self._last + 1}")
        data = os.pread(self._file, size, number * self._page_size)
        if len(data) < size:
            raise ValueError(f"page {number} is cut short")
        return data

    def _newest_meta(self) -> tuple[int, int, bytes]:
        """(bytes of a page, number of the last, tree of the records), as last written."""
        found = [meta for at in (0, 4096) if (meta := self._meta(at))][:1]
        # Each says how large pages are, and the second of the two is a page on.
        if found and (second := self._meta(found[0][1])):
            found.append(second)
        if not found:
            raise ValueError("no LMDB file of data version 1")
        _, page_size, last, tree = max(found, key=lambda meta: meta[0])
        if page_size not in (2**n for n in range(9, 17)):
            raise ValueError(f"pages of {page_size} bytes")
        return page_size, last, tree

    def _meta(self, at: int) -> tuple[int, int, int, bytes] | None:
        """(transaction, bytes of a page, last page, tree) of a meta page, None where it is none."""
        data = os.pread(self._file, 16 + _META.size, at)
        if len(data) < 16 + _META.size:
            return None
        magic, version, _, _, free, tree, last, transaction = _META.unpack_from(data, 16)
        if magic != _MAGIC or version != _VERSION:
            return None
        return transaction, _TREE.unpack(free)[0], last, tree

    def _node_places(self, number: int, kind: int) -> tuple[bytes, tuple[int, ...]]:
        """(bytes of a page, where its nodes are)."""
        page = self._read(number, self._page_size)
        found, _, flags, low, _ = _PAGE.unpack_from(page)
        if found != number or flags & _KINDS != kind:
            raise ValueError(f"page {number} is not what the tree says")
        count = (low - 16) // 2
        if low < 16 or low > self._page_size:
            raise ValueError(f"page {number} has {count} records")
        return page, struct.unpack_from(f"<{count}H", page, 16)

    def _nodes(self, first: bytes = b"") -> Iterator[tuple[bytes, Place]]:
        """(key, place) of the records from `first` on."""
        if self._root == _NO_PAGE or not self._depth:
            return
        before, left = None, self.entries
        for leaf in self._leaves(self._root, self._depth, first):
            page, at = self._node_places(leaf, _LEAF)
            keys = [_key(page, place) for place in at]
            if not keys:
                raise ValueError(f"page {leaf} is empty")
            for i in range(bisect.bisect_left(keys, first), len(keys)):
                if before is not None and keys[i] <= before:
                    raise ValueError(f"keys on page {leaf} do not rise")
                before = keys[i]
                left -= 1
                if left < 0:
                    raise ValueError(f"more records than the {self.entries:,} it says")
                yield keys[i], _place(page, at[i], len(keys[i]))

    def _leaves(self, number: int, depth: int, first: bytes) -> Iterator[int]:
        """Pages of the records from `first` on, at `depth` below a page."""
        if depth == 1:
            yield number
            return
        page, at = self._node_places(number, _BRANCH)
        keys = [_key(page, place) for place in at]
        if not keys:
            raise ValueError(f"page {number} leads nowhere")
        # The first key of a branch stands for all below the second.
        start = max(bisect.bisect_right(keys, first, lo=1) - 1, 0)
        for place in at[start:]:
            low, high, top, _ = _NODE.unpack_from(page, place)
            yield from self._leaves(low | high << 16 | top << 32, depth - 1, first)
            first = b""


def _key(page: bytes, at: int) -> bytes:
    """The key of a node."""
    if at + 8 > len(page):
        raise ValueError("a record beyond its page")
    size = _NODE.unpack_from(page, at)[3]
    key = page[at + 8 : at + 8 + size]
    if len(key) < size:
        raise ValueError("a key beyond its page")
    return key


def _place(page: bytes, at: int, key: int) -> Place:
    """Where the value of a node is."""
    low, high, flags, _ = _NODE.unpack_from(page, at)
    size, start = low | high << 16, at + 8 + key
    if flags & _TREE_INSIDE:
        raise ValueError("a database within the database, or several values of a key")
    if not flags & _ON_PAGES_OF_ITS_OWN:
        return Place(size, page[start : start + size], 0)
    number = int.from_bytes(page[start : start + 8], "little")
    return Place(size, b"", number or _NO_PAGE)
