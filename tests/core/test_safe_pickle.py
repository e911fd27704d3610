"""The unpickler: what data files hold comes back, and nothing in a pickle is run."""

import collections
import datetime
import functools
import os
import pickle
import pickletools
import time
import tracemalloc
import types

import numpy as np
import pytest
from made_data import REAL

from core import safe_pickle
from core.errors import DataError

DTYPES = ["?", "i1", "u1", "<i2", ">i4", "<u8", "<f2", ">f4", "<f8", "g", "<c8", "S3", "<U4"]


def same(left, right):
    """Equal in value and type, arrays in dtype, order of axes and writability too."""
    assert type(left) is type(right)
    if isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.flags.writeable
        same(left.ravel().tolist(), right.ravel().tolist())
    elif isinstance(left, dict):
        same(list(left), list(right))
        same(list(left.values()), list(right.values()))
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            same(a, b)
    else:
        assert left == right


VALUES = {
    "plain": [
        None,
        True,
        2**70,
        -1.5,
        1 - 2j,
        "häß \U0001f600",
        b"\x00\xff",
        b"",
        bytearray(b"\xfe"),
    ],
    "containers": {"a": (1, [2, (3,)]), 5: {1, 2}, ("k", b"b"): frozenset("ab"), None: {}},
    "record": {"features": np.arange(12, dtype="f4").reshape(3, 4), "n": np.int64(3)},
    "scalars": [np.float32(0.5), np.bool_(True), np.str_("é"), np.bytes_(b"x"), np.complex64(1j)],
    "orders": [
        np.asfortranarray(np.ones((2, 3))),
        np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    ],
    "objects": np.array([{"x": np.float32(3)}, None, [np.arange(2)], "é"], object),
    "empty": [np.zeros((0, 4), "f4"), np.array(7), np.array({"one": 1})],
}


@pytest.mark.parametrize("protocol", range(6))
def test_values_come_back(protocol):
    for value in VALUES.values():
        same(safe_pickle.loads(pickle.dumps(value, protocol), "here"), value)
    for dtype in DTYPES:
        value = np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype)
        same(safe_pickle.loads(pickle.dumps(value, protocol), "here"), value)
    ordered = collections.OrderedDict(b=1, a=[2])
    same(safe_pickle.loads(pickle.dumps(ordered, protocol), "here"), {"b": 1, "a": [2]})


def test_one_object_at_two_places_and_in_itself():
    shared = np.arange(3)
    twice = [shared, (shared,)]
    got = safe_pickle.loads(pickle.dumps(twice), "here")
    assert got[0] is got[1][0]
    twice.append(twice)  # nothing that reads a value expects this
    with pytest.raises(DataError, match="a value that holds itself"):
        safe_pickle.loads(pickle.dumps(twice), "here")


def test_names_of_numpy_1_and_2():
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    for protocol in (2, 5):
        new = pickle.dumps([array, array[0, 1]], protocol)
        assert b"numpy._core" in new
        # The name's length comes before it in protocol 4 and later.
        old = new.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
        old = old.replace(b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric")
        old = old.replace(b"cnumpy._core.", b"cnumpy.core.")
        if protocol == 5:  # the frame's length, too
            old = b"".join([old[:2], old[11:]])
        assert b"_core" not in old
        for data in (new, old):
            got = safe_pickle.loads(data, "here")
            same(got, [array, np.float32(1)])


def test_python_2():
    """Written out as Python 2's cPickle does: its strings are bytes, unicode is text."""
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    minus_1 = b"J\xff\xff\xff\xff"
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNN" + 2 * minus_1 + b"K\x00tb"
    raw = np.asarray([0.1, -3e38, 1e-40], "<f4").tobytes()
    data = head + b"(K\x01K\x03\x85" + dtype + b"\x89U\x0c" + raw + b"tb."
    np.testing.assert_array_equal(safe_pickle.loads(data, "here"), np.frombuffer(raw, "<f4"))
    texts = b"}(U\x05wordsU\x03dogU\x04utf8U\x02\xc3\xa9U\x03rawU\x02\xff\x80"
    texts += b"X\x02\x00\x00\x00\xc3\xa9S'\\xff\xfe'\nu."
    got = safe_pickle.loads(texts, "here")
    assert got == {"words": "dog", "utf8": "é", "raw": b"\xff\x80", "é": b"\xff\xfe"}
    sets = b"c__builtin__\nset\n((lp0\nS'a'\naI5\natR."
    assert safe_pickle.loads(sets, "here") == {"a", 5}


class Reduced:
    """Pickles as a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def call(module, name, *args, more=b""):
    """A pickle of protocol 0 that calls module.name(*args), then runs the opcodes `more`."""
    body = b"".join(b"V" + arg.encode() + b"\n" for arg in args)
    return f"c{module}\n{name}\n(".encode() + body + b"tR" + more + b"."


MARKER = "touched-by-a-pickle"
REFUSED = {
    "os.system": (call("os", "system", f"touch {MARKER}"), r"os\.system"),
    "posix.system": (pickle.dumps(Reduced(os.system, (f"touch {MARKER}",))), r"posix\.system"),
    "eval": (call("builtins", "eval", f"open('{MARKER}', 'w')"), r"builtins\.eval"),
    "exec": (call("__builtin__", "exec", f"open('{MARKER}', 'w')"), r"__builtin__\.exec"),
    "getattr": (pickle.dumps(Reduced(getattr, ({}, "pop"))), r"builtins\.getattr"),
    "nested": (
        pickle.dumps({"a": [(1, Reduced(eval, (f"open('{MARKER}', 'w')",)))]}),
        r"builtins\.eval",
    ),
    "in an array": (
        pickle.dumps(np.array([Reduced(eval, (f"open('{MARKER}', 'w')",))], object)),
        r"builtins\.eval",
    ),
    "dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", r"numpy\.ndarray\.tofile"),
    "instance": (b"(ios\nsystem\n.", r"os\.system"),
    "numpy.load": (call("numpy", "load", MARKER), r"numpy\.load"),
    "numpy testing": (call("numpy.testing._private.utils", "runstring", "1"), "runstring"),
    "function as value": (b"cnumpy.core.multiarray\n_reconstruct\n.", "type Named"),
    "dtype as value": (pickle.dumps(np.dtype("f4")), "type Dtype"),
    "array class called": (call("numpy", "ndarray", "a"), r"numpy\.ndarray"),
    "change of a function": (b"cnumpy\ndtype\n}Vx\nI1\nsb.", "change of a function"),
    "persistent id": (b"Pfoo\n.", "persistent id 'foo'"),
    "codec": (call("_codecs", "encode", "a", "zlib_codec"), "zlib_codec"),
    "subclass": (pickle.dumps(np.ones(2).view(np.matrix)), "numpy.matrix"),
    "structured": (pickle.dumps(np.zeros(1, [("a", "f4")])), "dtype 'V4'"),
    "dates": (pickle.dumps(np.zeros(1, "M8[D]")), "dtype 'M8'"),
    "other class": (pickle.dumps(datetime.date(2020, 1, 1)), r"datetime\.date"),
    "namespace": (pickle.dumps(types.SimpleNamespace(a=1)), "SimpleNamespace"),
    "partial": (pickle.dumps(functools.partial(print, 1)), r"functools\.partial"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, found = REFUSED[name]
    assert list(pickletools.genops(data))[-1][0].name == "STOP"  # well-formed
    with pytest.raises(DataError, match=rf"(?s)asks for something that is refused.*here.*{found}"):
        safe_pickle.loads(data, "here")
    assert not list(tmp_path.iterdir())


def state(array, **changes):
    """Pickles an array whose state has other entries than it should."""
    version, shape, dtype, order, data = array.__reduce__()[2]
    values = {"shape": shape, "dtype": dtype, "data": data, **changes}
    made = (version, values["shape"], values["dtype"], order, values["data"])
    return pickle.dumps(Reduced(*array.__reduce__()[:2], made), 2)


FLOATS = np.ones(4, "f4")
DAMAGED = {
    "cut short": pickle.dumps(FLOATS)[:-7],
    "empty": b"",
    "no pickle": b"image_id\t12\n",
    "too few bytes": state(FLOATS, shape=(5,)),
    "huge": state(FLOATS, shape=(2**40, 2**40)),
    "negative shape": state(FLOATS, shape=(-2, -2)),
    "bytes as pointers": state(FLOATS, dtype=np.dtype("O")),
    "objects short of their shape": state(np.array([None, 1], object), shape=(3,)),
    "shape of floats": state(FLOATS, shape=(4.0,)),
    "itemsize": b"cnumpy\ndtype\n(Vf4\nI00\nI01\ntR(I3\nV<\nNNNI64\nI-1\nI0\ntb.",
    "extension code": b"\x80\x02\x82\x01.",
    "bytearray of a size": b"cbuiltins\nbytearray\n(I1000000000000\ntR.",
    "array without state": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR.",
    "list as key": b"}]I1\ns.",
    "long bytes": b"\x80\x05\x96" + b"\xff\xff\xff\xff\xff\x0f\x00\x00.",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(name):
    with pytest.raises(DataError, match=r"(?s)readable pickle|refused.*type Array") as caught:
        safe_pickle.loads(DAMAGED[name], "here")
    assert "where: here" in str(caught.value)


def doubled(value, times, join):
    """Opcodes of a value of which `join` makes one that holds it twice, and so on."""
    return value + (b"2" + join) * times


def doubled_list(times):
    level = b"".join(b"]h" + bytes([i]) + b"ah" + bytes([i]) + b"aq" + bytes([i + 1])
                     for i in range(times))  # fmt: skip
    return b"]Naq\x00" + level


def small(value):
    """A pickle of protocol 2 without its ending."""
    return pickle.dumps(value, 2)[:-1]


def many(opcode, count):
    """A list of values that an opcode makes."""
    return b"(" + opcode * count + b"l."


BIG = (2**61 - 1) ** 2
BOMBS = {  # name: (pickle, what is found)
    "hash for ever": (b"}" + doubled(b"N", 40, b"\x86") + b"Ns.", "too often"),
    "hash of a set": (b"\x8f(" + doubled(b"N", 40, b"\x86") + b"\x90.", "too often"),
    "hash again and again": (
        b"}" + doubled(b"N", 17, b"\x86") + b"q\x00N" + b"sh\x00N" * 5000 + b"s.",
        "far more memory",
    ),
    "deep key": (b"})" + b"\x85" * 200_000 + b"Ns.", "nested"),
    "deep lists": (b"]" * 20_000 + b"a" * 19_999 + b".", "nested"),
    "deep frozensets": (b"(N\x91" + b"q\x00" + b"(h\x00\x91q\x00" * 9999 + b".", "nested"),
    "doubled lists": (doubled_list(40) + b".", "too often"),
    "doubled persistent id": (doubled(b"N", 17, b"\x86") + b"Q.", "persistent id"),
    "long name": (b"c" + b"a" * 10**6 + b"\nb\n.", "a{100}"),
    "long dtype": (b"cnumpy\ndtype\n(V" + b"a" * 10**6 + b"\ntR.", "dtype .a{40}"),
    "copies of a list": (
        small(list(range(2000))) + b"q\xff" + b"c__builtin__\nlist\nh\xff\x85R" * 20_000 + b".",
        "far more memory",
    ),
    "copies of an array's bytes": (
        small(bytearray(10**6)) + b"q\xff" + b"c__builtin__\nbytearray\nh\xff\x85R" * 2000 + b".",
        "far more memory",
    ),
    "many sets": (many(b"\x8f", 10**5), "far more memory"),
    "many marks": (b"(" * 200_000 + b"N.", "far more memory|IndexError"),
    "long number": (b"\x8b\x40\x42\x0f\x00" + bytes(10**6) + b".", "number of 1000000 bytes"),
    "long digits": (b"L" + b"9" * 5000 + b"L\n.", "number of 5000 digits"),
    "keys of one hash": (pickle.dumps({BIG * i: 0 for i in range(1, 5000)}), "one hash"),
    "long bytes that are not there": (b"B\xff\xff\xff\xff.", "EOF"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_cost_little(name):
    data, found = BOMBS[name]
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(DataError, match=f"(?s)here.*({found})") as caught:
            safe_pickle.loads(data, "here")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**24 + 100 * len(data)
    assert time.process_time() - start < 5  # with the tracing of memory
    assert len(str(caught.value)) < 1000


def test_sizes_of_nothing_take_no_room():
    assert safe_pickle.loads(b"]r\xf0\xff\xff\x7f.", "here") == []  # a number of the memo
    empty = np.zeros((0, 3), object)
    got = safe_pickle.loads(state(empty, shape=(0, 10**8)), "here")
    assert got.shape == (0, 10**8)


def test_every_truncation_and_many_flips_end_in_a_data_error_or_a_value():
    data = pickle.dumps(VALUES["record"], 2)
    rng = np.random.default_rng(0)
    for cut in range(len(data)):
        with pytest.raises(DataError):
            safe_pickle.loads(data[:cut], "here")
    for _ in range(2000):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            safe_pickle.loads(bytes(flipped), "here")
        except DataError:
            continue


@pytest.mark.skipif(not REAL.is_dir(), reason="the real data is not there")
def test_real_vocabulary():
    data = (REAL / "vqa_vocab" / "trainval_ans2label.pkl").read_bytes()
    got = safe_pickle.loads(data, "here")
    assert len(got) == 3129
    assert sorted(got.values()) == list(range(3129))
