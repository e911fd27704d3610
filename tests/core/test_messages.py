"""Names and values of others' files in messages."""

import io
import sys

import pytest

from core import console
from core.errors import DataError, ForeignError
from core.messages import brief, printable
from core.reading import attempt, reading


def test_what_a_terminal_would_obey_is_shown():
    assert printable("a\tb\nä 犬 \U0001f600") == "a\tb\nä 犬 \U0001f600"
    assert printable("\x1b[2J\x9b\x07\r") == r"\x1b[2J\x9b\x07\r"
    assert printable("\u202e\u2028\ufeff\ud800") == r"\u202e\u2028\ufeff\ud800"


def test_messages_are_bounded_and_of_one_line_a_part():
    error = DataError("bad", where="a\n  fix: rm -rf\x1b[0m", found="x" * 10**7)
    lines = str(error).split("\n")
    assert lines[:2] == ["bad", r"  where: a\n  fix: rm -rf\x1b[0m"]
    assert len(str(error)) < 11_000
    assert lines[2].endswith("(10,000,000 characters)")


def test_the_console_takes_any_name_in_any_encoding(monkeypatch, capsys):
    console.warn("\x1b[31mname\udcff")
    assert capsys.readouterr().err == "\\x1b[31mname\\udcff\n"
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.say("größer")
    assert stream.buffer.getvalue() == b"gr\\xf6\\xdfer\n"


def test_values_are_shown_at_a_bounded_cost():
    doubled = []
    for _ in range(60):
        doubled = [doubled, doubled]
    for value in (10**6000, "a" * 10**7, b"a" * 10**7, doubled, {"a": [1] * 10**5}):
        assert len(brief(value)) < 120
    assert brief(10**6000) == "a number of 19932 bits"
    assert brief("a") == "'a'"


def test_the_boundary_of_reading():
    said = r"(?s)bad file\n  where: x\n  found: KeyError: 3\n  fix"
    with pytest.raises(DataError, match=said), reading("x", "bad file"):
        raise KeyError(3)
    with pytest.raises(DataError, match="more than fits into memory"), reading("x"):
        raise MemoryError
    for error in (
        DataError("said"),
        ForeignError("code"),
        KeyboardInterrupt(),
    ):
        with pytest.raises(type(error)) as caught, reading("x"):
            raise error
        assert caught.value is error
    assert attempt("x", lambda: 3) == 3
    assert isinstance(attempt("x", lambda: 1 / 0), DataError)
