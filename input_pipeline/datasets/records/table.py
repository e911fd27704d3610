"""The records of a split, found by id without reading its annotations again.

Annotations of some hundred thousand questions take ten seconds and a gigabyte to read. So records
are written once to a table in `data.dir`, one JSON text each, beside an index of their ids
(`regions.index_file`), and come back from there exactly, one by one.
"""

import dataclasses
import functools
import itertools
import json
import operator
import os
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import xxhash

from core import remote
from core.errors import DataError
from core.progress import Progress, atomic_folder
from core.reading import reading
from core.strings import pack_strings
from input_pipeline.datasets.records.base import Record
from input_pipeline.regions import id_lookup, index_file
from input_pipeline.texts.columns import Column

FORMAT = 1
Coder = Callable[[Any], Any]
_CHUNK = 4096  # records read at a time
_FIELDS = {"offset": np.int64}  # of the index: where the texts end


class Records(Protocol):
    """The records of a split."""

    def __call__(self) -> Iterator[Record]:
        """All of them, in order."""
        ...

    def find(self, ids: Iterable[str]) -> Mapping[str, Record]:
        """{id: record} of those that there are; of several of one id the first."""
        ...


class RecordList:
    """Records in memory."""

    def __init__(self, records: Iterable[Record]):
        self._records = [*records]

    def __call__(self) -> Iterator[Record]:
        return iter(self._records)

    def find(self, ids: Iterable[str]) -> dict[str, Record]:
        """See `Records`."""
        wanted = set(ids)
        return {r.text_id: r for r in reversed(self._records) if r.text_id in wanted}


class RecordTable:
    """Records in a table, which is written when it is asked for first."""

    def __init__(
        self,
        records: Callable[[], Iterable[Record]],
        parent: str | os.PathLike,
        split: str,
        source: Callable[[], str],
    ):
        """Opens nothing.

        Args:
          records: records() → the records of the split.
          parent: folder of tables.
          split: name of the split, for the table's.
          source: source() → fingerprint of what they come from.
        """
        self._records, self._parent, self._split = records, parent, split
        self._source = source

    def __call__(self) -> Iterator[Record]:
        table = self._table
        for start in range(0, len(table.ends), _CHUNK):
            yield from table.read(start, min(start + _CHUNK, len(table.ends)))

    def find(self, ids: Iterable[str]) -> dict[str, Record]:
        """See `Records`."""
        table, wanted = self._table, [*ids]
        rows = table.rows_of(wanted)
        return {
            name: next(table.read(row, row + 1))
            for name, row in zip(wanted, rows.tolist(), strict=True)
            if row >= 0
        }

    @functools.cached_property
    def _table(self) -> "_Table":
        text = f"{FORMAT} {_described()} {self._source()}"
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in self._split)
        digest = xxhash.xxh3_64_hexdigest(text.encode())
        folder = remote.path(self._parent) / f"records-{name}-{digest}"
        if not remote.complete(folder, "meta.json"):
            _write(folder, self._records(), self._split)
        return _Table(folder)


class _Table:
    """A table that is open."""

    def __init__(self, place: remote.Path):
        folder = remote.mirror(place)
        fix = f"remove {place}; it is made again from the annotations"

        def broken(file: str, expected: object, found: object) -> DataError:
            what = "a table of records is damaged"
            return DataError(what, where=str(place / file), expected=expected, found=found, fix=fix)

        with reading(str(place), "a table of records is damaged", fix=fix):
            meta = json.loads((folder / "meta.json").read_text())
            index, self._lookup = index_file.opened(folder, meta["index"], _FIELDS, broken)
            self.ends = index["offset"]
            self._texts = Column(folder / "records.bin", np.dtype(np.uint8))
            if self._texts.xxh3 != meta["records"] or len(self._texts) != self.ends[-1]:
                raise broken("records.bin", f"hash {meta['records']}", f"hash {self._texts.xxh3}")
            known = {_name(kind): kind for kind in _kinds()}
            self._decoders = [_coders(known[name])[1] for name in meta["kinds"]]

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """int64 [n] numbers of records, -1 where there is none; ids as they are written."""
        return id_lookup.exact([self._lookup], ids)

    def read(self, start: int, stop: int) -> Iterator[Record]:
        """Records from one number up to another."""
        first = int(self.ends[start - 1]) if start else 0
        data = self._texts[first : int(self.ends[stop - 1])].tobytes()
        for kind, *fields in json.loads(b"[%s]" % data[:-1].replace(b"\n", b",")):
            yield self._decoders[kind](fields)


def _write(folder: remote.Path, records: Iterable[Record], split: str) -> None:
    progress, ids, ends, end = Progress(f"records of {split}"), [], [], 0
    kinds: dict[type, tuple[int, Any]] = {}
    digest = xxhash.xxh3_64()
    with atomic_folder(folder, keep_existing=True, last="meta.json") as temporary:
        with open(temporary / "records.bin", "wb") as file:
            for record in records:
                if type(record) not in kinds:
                    kinds[type(record)] = len(kinds), _coders(type(record))[0]
                number, encode = kinds[type(record)]
                fields = [number, *encode(record)]
                text = json.dumps(fields, ensure_ascii=False, default=_number).encode() + b"\n"
                file.write(text)
                digest.update(text)
                end += len(text)
                ids.append(record.text_id)
                ends.append(end)
                progress.add()
        if not ids:
            raise DataError(
                "a split has no records", where=split, expected="one or more", found="none"
            )
        keys, key_ends = pack_strings(ids)
        arrays = {"offset": np.asarray(ends, np.int64), "keys": keys, "key_ends": key_ends}
        index = index_file.write(temporary / index_file.FILE, arrays)
        meta = {"index": index, "records": digest.hexdigest(), "kinds": [*map(_name, kinds)]}
        (temporary / "meta.json").write_text(json.dumps(meta) + "\n")


def _number(value: Any) -> Any:
    return value.item()  # of numpy


def _coders(kind: Any) -> tuple[Coder | None, Coder | None]:
    """(makes JSON of a value of a type, makes the value of the JSON); None: it is the same.

    Dataclasses become lists of their fields; tuples are lists in JSON by themselves.
    """
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        coders = [_coders(hints[name]) for name in names]
        changed = [(i, code) for i, (code, _) in enumerate(coders) if code]
        restored = [(i, code) for i, (_, code) in enumerate(coders) if code]
        get = operator.attrgetter(*names)  # of two fields or more

        def encode(value: Any) -> list[Any]:
            fields = [*get(value)]
            for i, code in changed:
                fields[i] = code(fields[i])
            return fields

        def decode(fields: list[Any]) -> Any:
            for i, code in restored:
                fields[i] = code(fields[i])
            return kind(*fields)

        return encode, decode
    if typing.get_origin(kind) is not tuple:
        return None, None
    items = typing.get_args(kind)
    if items[-1] is Ellipsis:
        encode_item, decode_item = _coders(items[0])
        return (
            (lambda values: [*map(encode_item, values)]) if encode_item else None,
            (lambda values: tuple(map(decode_item, values))) if decode_item else tuple,
        )
    if any(code for item in items for code in _coders(item)):
        raise TypeError(f"a record with {kind}")
    return None, tuple


def _kinds(kind: type[Record] = Record) -> Iterator[type[Record]]:
    """A kind of records, and all that it is extended to."""
    yield kind
    yield from itertools.chain.from_iterable(map(_kinds, kind.__subclasses__()))


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _described() -> str:
    """The fields of the kinds of records here: with others a table is another one."""
    own = [kind for kind in _kinds() if kind.__module__.startswith(__package__)]
    fields = {_name(one): [*typing.get_type_hints(one)] for one in own}
    return json.dumps(fields, sort_keys=True)
