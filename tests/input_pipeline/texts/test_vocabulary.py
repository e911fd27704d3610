"""Vocabulary files: a line ends at "\\n" alone, whatever characters the pieces are."""

import pytest

from checkpoints import sources
from core.errors import DataError
from input_pipeline.texts import vocabulary
from input_pipeline.texts.tokenizer import SPECIALS, Tokenizer

ODD = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "a\rb", "\r"]
PIECES = [*SPECIALS.values(), *ODD, "", "last"]


def test_no_character_but_a_line_feed_ends_a_piece(tmp_path):
    path = tmp_path / "vocab.txt"
    vocabulary.write(path, PIECES)
    assert vocabulary.read(path) == PIECES
    assert Tokenizer.load(path).vocab["last"] == len(PIECES) - 1
    # Beside a published file, and named for one: the same reader.
    assert sources._pieces(tmp_path, "bert", "") == PIECES
    assert sources._pieces(tmp_path / "elsewhere", "bert", str(path)) == PIECES
    with pytest.raises(ValueError, match="holds a line end"):
        vocabulary.write(path, ["a\nb"])
    assert vocabulary.read(path) == PIECES


@pytest.mark.parametrize(
    "written",
    [b"[PAD]\r\na\r\nb\r\n", b"\xef\xbb\xbf[PAD]\na\nb", b"[PAD]\na\nb\n\n\n", b"[PAD]\r\na\r\nb"],
)
def test_line_ends_and_marks_of_other_systems(tmp_path, written):
    (tmp_path / "vocab.txt").write_bytes(written)
    assert vocabulary.read(tmp_path / "vocab.txt") == ["[PAD]", "a", "b"]


def test_what_cannot_be_read_is_told_with_its_line(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\nb\xff\n")
    with pytest.raises(DataError, match=r"(?s)not UTF-8.*vocab\.txt, line 2"):
        vocabulary.read(tmp_path / "vocab.txt")
    with pytest.raises(DataError, match=r"(?s)cannot be read.*No such file"):
        vocabulary.read(tmp_path / "none.txt")
