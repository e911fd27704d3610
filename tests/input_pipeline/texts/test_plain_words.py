"""Texts cut by the table of words have the pieces that the library gives them."""

import random
import string

import numpy as np
import pytest

from input_pipeline.texts import plain_words
from input_pipeline.texts.tokenizer import Tokenizer

WORDS = ["play", "##ing", "##s", "a", "b", "##a", "##b", "don", "'", "t", ".", "7", "##7", "["]
WORDS += ["]", "mask", "cafe", "-", "ß", "日", "!"]
STRANGE = ["", " ", "\t", "a\nb", "a\x00b", "a\x7fb", "Café", "日本 a", "ß", "\u2028", "e\u0301"]
STRANGE += ["½", "[MASK] a", "a" * 100, "a" * 101, "a[PAD]b", "\xa0a", "don't", "plays playing."]


@pytest.fixture(scope="module")
def made():
    return Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS], "made up")


def by_library(made, texts):
    found = made.encode_batch(texts)
    return (
        [i for item in found for i in item.ids],
        [start for item in found for start in item.word_starts],
        [len(item.ids) for item in found],
    )


def random_texts(rng, count):
    letters = string.printable[:95] * 3 + "éß日\u0301\xa0\x01" * 2
    for _ in range(count):
        words = rng.choices(["play", "playing", "a", "abab7", "don't", *STRANGE[10:14]], k=3)
        yield " ".join(["".join(rng.choices(letters, k=rng.randrange(9))), *words])


@pytest.mark.parametrize("most", [2**20, 40])
def test_pieces_are_those_of_the_library(made, most, monkeypatch):
    monkeypatch.setattr(plain_words, "MOST", most)
    rng = random.Random(0)
    for texts in (
        [],
        STRANGE,
        ["a"],
        [""],
        ["", ""],
        *[[*random_texts(rng, 40)] for _ in range(20)],
    ):
        ids, starts, lengths = by_library(made, texts)
        found = made.cut(texts)
        assert (found.ids.dtype, found.word_starts.dtype) == (np.int32, bool)
        assert found.ids.tolist() == ids
        assert found.word_starts.tolist() == starts
        assert found.lengths.tolist() == lengths
        order = np.asarray(rng.sample(range(len(texts)), len(texts) // 2), np.int64)
        some = found.take(order)
        ids, starts, lengths = by_library(made, [texts[i] for i in order])
        assert some.ids.tolist() == ids
        assert some.word_starts.tolist() == starts
        assert some.lengths.tolist() == lengths


def test_every_printable_character_stands_as_the_library_has_it(made):
    texts = [f"a{x}b" for x in map(chr, range(32, 127))]
    assert all(map(plain_words.is_plain, texts))
    found, (ids, starts, lengths) = made.cut(texts), by_library(made, texts)
    assert found.ids.tolist() == ids
    assert found.word_starts.tolist() == starts
    assert found.lengths.tolist() == lengths
