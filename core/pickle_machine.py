"""The machine that runs a pickle's opcodes, and counts what they cost."""

import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from core.messages import brief, clip
from core.pickle_values import NAMES, Array, Dtype, Named, Opaque, Refused

MAX_DEPTH = 50  # of containers in each other; data sets have 5
MAX_SAME_HASHES = 1000  # keys of one container with the same hash, each compared with the others
# Memory of the values: so many bytes, and so many for each byte of the pickle. Real ones take 20.
_FREE, _PER_BYTE = 2**22, 32
# Values with what stands in several places counted for each: what a copy, a comparison or an array
# of them would meet.
_FREE_VALUES, _VALUES_PER_BYTE = 2**20, 8

_ATOMS = {type(None), bool, int, float, complex}
_SIMPLE = {*_ATOMS, str, bytes, bytearray}
_UNIQUE = (str, bytes, bool, type(None))  # keys whose hashes nobody can choose, and few others
_MODULUS = 2**61 - 1  # whole numbers below it are their own hash


class Machine:
    """Runs one pickle."""

    def __init__(
        self,
        data: bytes,
        at: int = 0,
        names: Mapping[tuple[str, str], Named] = NAMES,
        persistent: Callable[[Any], Any] | None = None,
    ):
        """Makes the machine.

        Args:
          data: the pickle.
          at: its first byte.
          names: stand-ins of what it may name.
          persistent: what stands for a persistent id; None: they are refused.
        """
        self._data, self._at = data, at
        self._names, self._standing_for = names, persistent
        self.stack: list[Any] = []
        self._marks: list[list[Any]] = []  # stacks below the marks
        self.memo: dict[int, Any] = {}
        self._left = _FREE + _PER_BYTE * len(data)
        self._most_values = _FREE_VALUES + _VALUES_PER_BYTE * len(data)
        # id: (values in it, depth, itself) of tuples and frozensets, kept so that no id is reused.
        self._weights: dict[int, tuple[int, int, Any]] = {}
        self._hashes: dict[int, tuple[Any, dict[int, int]]] = {}  # id of a container: (it, counts)

    def run(self, operations: "Mapping[int, Callable[[Machine], object]]") -> Any:
        """The value of the pickle, stand-ins replaced.

        Args:
          operations: {opcode: what it does}, all but STOP.
        """
        data = self._data
        while True:
            code = data[self._at] if self._at < len(data) else -1
            if code == 0x2E:  # STOP
                break
            if code not in operations:
                raise EOFError("cut short") if code < 0 else ValueError(f"opcode {code:#04x}")
            self._at += 1
            operations[code](self)
        return self._plain(self.stack.pop(), {}, 1)[0]

    @property
    def end(self) -> int:
        """The first byte behind the pickle, after `run`."""
        return self._at + 1

    # What the functions of `pickle_values` call (its `Machine`).

    def spend(self, nbytes: int) -> None:
        """Counts memory.

        Raises:
          ValueError: there has been too much of it for the size of the pickle.
        """
        self._left -= nbytes
        if self._left < 0:
            raise ValueError("its values take far more memory than the pickle itself")

    def add(self, container: set | dict, key: Any, value: Any = None) -> None:
        """Puts `key` into a set or dict, after a check of what hashing it costs."""
        kind = type(key)
        if kind not in _UNIQUE and not (kind is int and -_MODULUS < key < _MODULUS):
            if kind in (tuple, frozenset):
                weight = self._weight(key)[0]
            elif kind in _ATOMS or isinstance(key, np.generic):
                weight = 1
            else:
                raise ValueError(f"a key of type {kind.__name__}")
            counts = self._hashes.setdefault(id(container), (container, {}))[1]
            self.spend(8 * weight)
            same = counts[hash(key)] = counts.get(hash(key), 0) + 1
            self.spend(8 * weight * same)
            if same > MAX_SAME_HASHES:
                raise ValueError("many keys of one hash")
        if isinstance(container, set):
            container.add(key)
        else:
            container[key] = value

    def tuple_of(self, items: list | tuple) -> tuple:
        """A tuple, weighed."""
        made = tuple(items)
        self._weigh(made, items)
        return made

    def frozenset_of(self, items: list | tuple) -> frozenset:
        """A frozenset, weighed."""
        unique: set = set()
        for item in items:
            self.add(unique, item)
        made = frozenset(unique)
        self._weigh(made, items)
        return made

    def _weigh(self, made: tuple | frozenset, items: list | tuple) -> None:
        values, depth = 1, 0
        for item in items:
            inner = self._weight(item)
            values, depth = values + inner[0], max(depth, inner[1])
        self.spend(48 + 8 * len(items))
        if depth >= MAX_DEPTH:
            raise ValueError(f"values are nested more than {MAX_DEPTH} deep")
        if values > self._most_values:
            raise ValueError("values stand in each other too often")
        self._weights[id(made)] = values, depth + 1, made

    def _weight(self, value: Any) -> tuple[int, int, Any]:
        """(values, depth, value) of what a tuple or frozenset holds."""
        if type(value) in (tuple, frozenset) and value:
            return self._weights[id(value)]
        return 1, 0, None

    # Opcodes.

    def take(self, count: int) -> bytes:
        """The next bytes."""
        start = self._at
        self._at += count
        if count < 0 or self._at > len(self._data):
            raise EOFError(f"{len(self._data) - start} of {count} bytes")
        return self._data[start : self._at]

    def number(self, code: str) -> Any:
        """The next number of a `struct` code."""
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def line(self) -> bytes:
        """The bytes to the next line end."""
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise EOFError("a line without end")
        found = self._data[self._at : end]
        self._at = end + 1
        return found

    def push(self, value: Any) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)

    def memoize(self, number: int) -> None:
        """Keeps the stack's last value."""
        self.spend(64)
        self.memo[number] = self.stack[-1]

    def mark(self) -> None:
        """Begins a new stack above this one."""
        self.spend(64)
        self._marks.append(self.stack)
        self.stack = []

    def popped(self) -> list:
        """The values above the last mark, which goes."""
        items, self.stack = self.stack, self._marks.pop()
        return items

    def pop(self) -> Any:
        """Takes the stack's last value, or the last mark."""
        return self.stack.pop() if self.stack else self.popped()

    def make(self, kind: type, size: int) -> None:
        """Pushes an empty container."""
        self.spend(size)
        self.push(kind())

    def append(self, items: list) -> None:
        """Adds values to the list below them."""
        if type(self.stack[-1]) is not list:
            raise ValueError("an append to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list) -> None:
        """Adds keys and values to the dict below them."""
        container = self.stack[-1]
        if type(container) is not dict or len(items) % 2:
            raise ValueError("pairs for what is no dict")
        for i in range(0, len(items), 2):
            self.add(container, items[i], items[i + 1])

    def add_items(self, items: list) -> None:
        """Adds values to the set below them."""
        if type(self.stack[-1]) is not set:
            raise ValueError("items for what is no set")
        for item in items:
            self.add(self.stack[-1], item)

    def name(self, module: Any, name: Any) -> None:
        """Pushes the stand-in of a name."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no text")
        if (module, name) not in self._names:
            raise Refused(clip(f"{module}.{name}", 200))
        self.push(self._names[module, name])

    def persistent(self, found: Any) -> None:
        """Pushes what stands for a persistent id."""
        if self._standing_for is None:
            raise Refused(f"the persistent id {brief(found)}")
        self.spend(64)
        self.push(self._standing_for(found))

    def call(self, function: Any, arguments: Any) -> None:
        """Calls a stand-in."""
        if not isinstance(function, Named) or type(arguments) not in (tuple, list):
            raise ValueError("a call of what is no function")
        if function.function is None:
            raise Refused(f"a call of {function.name}")
        self.spend(64)
        self.push(function.function(self, *arguments))

    def build(self) -> None:
        """Sets the state of an array or a dtype."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Named):
            raise Refused("a change of a function")
        if not isinstance(self.stack[-1], Array | Dtype) or type(state) is not tuple:
            raise ValueError(f"a state of a {type(self.stack[-1]).__name__}")
        self.stack[-1].set_state(self, state)

    # The end.

    def _plain(self, value: Any, seen: dict[int, Any], depth: int) -> tuple[Any, int]:
        """(`value` with its stand-ins replaced, in place where it can be; values in it).

        Args:
          value: on the stack at the end.
          seen: id: (object, its replacement, values); None while it is worked on.
          depth: containers around it.
        """
        kind = type(value)
        if kind in _ATOMS:
            return value, 1
        if kind in (str, bytes, bytearray):
            return value, 1 + len(value) // 64
        if isinstance(value, np.generic | Opaque):
            return value, 1
        if depth > MAX_DEPTH:
            raise ValueError(f"values are nested more than {MAX_DEPTH} deep")
        if id(value) in seen:
            if seen[id(value)] is None:
                raise ValueError("a value that holds itself")
            return seen[id(value)][1:]
        seen[id(value)] = None
        new, items = self._replaced(value, seen, depth)
        values = 1 + sum(items)
        if values > self._most_values:
            raise ValueError("values stand in each other too often")
        seen[id(value)] = value, new, values
        return new, values

    def _replaced(self, value: Any, seen: dict[int, Any], depth: int) -> tuple[Any, list[int]]:
        """(a container or array without stand-ins, values in each of its items)."""
        kind, sizes = type(value), []
        if kind is not Array and (simple := _values_of_simple(value)) is not None:
            return value, [simple]

        def plain(item: Any) -> Any:
            new, values = self._plain(item, seen, depth + 1)
            sizes.append(values)
            return new

        if kind is list:
            value[:] = [plain(item) for item in value]
            return value, sizes
        if kind is dict:
            for key, item in value.items():
                plain(key)  # no stand-in can be one: they are not hashable
                value[key] = plain(item)
            return value, sizes
        if kind is tuple:
            return tuple([plain(item) for item in value]), sizes
        if kind in (set, frozenset):
            for item in value:
                plain(item)
            return value, sizes
        if kind is Array and value.value is not None:
            new = value.value
            if new.dtype.hasobject and new.size:
                for i in np.ndindex(new.shape):
                    new[i] = plain(new[i])
            return new, [*sizes, new.nbytes // 64]
        raise Refused(f"a value of type {kind.__name__}")


def _values_of_simple(value: Any) -> int | None:
    """How many values a container of atoms and texts alone holds; None: there are others."""
    if type(value) not in (list, dict, tuple, set, frozenset):
        return None
    count = 0
    for items in (value, value.values()) if type(value) is dict else (value,):
        kinds = set(map(type, items))
        if not kinds <= _SIMPLE:
            return None
        count += len(items)
        if not kinds <= _ATOMS:
            count += sum(len(item) for item in items if type(item) not in _ATOMS) // 64
    return count
