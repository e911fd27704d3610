"""Tokeniser: BERT's pieces, words and special ids; a vocabulary that is the same each time."""

import subprocess
import sys

import pytest
from made_data import REAL, text_of

from core.errors import DataError
from input_pipeline.schema import SpecialIds
from input_pipeline.texts.tokenizer import Tokenizer, train_wordpiece

SMALL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "play", "##ing", "##er", ",", "cafe",
         "mask", "[", "]"]  # fmt: skip


def vocabulary(folder, pieces=SMALL):
    path = folder / "vocab.txt"
    path.write_text("\n".join(pieces) + "\n")
    return path


def test_pieces_words_and_places(tmp_path):
    tokenizer = Tokenizer.load(vocabulary(tmp_path))
    text = "A player, PLAYING Café zzz"
    one, empty = tokenizer.encode_batch([text, " \n"])
    names = [SMALL[i] for i in one.ids]
    assert names == ["a", "play", "##er", ",", "play", "##ing", "cafe", "[UNK]"]
    assert one.word_starts == [True, True, False, True, True, False, True, True]
    assert [text[a:b] for a, b in one.spans] == [
        "A",
        "play",
        "er",
        ",",
        "PLAY",
        "ING",
        "Café",
        "zzz",
    ]
    assert (empty.ids, empty.word_starts) == ([], [])
    assert tokenizer.decode(one.ids) == "a player , playing cafe [UNK]"
    assert (tokenizer.special.cls, tokenizer.vocab_size) == (2, len(SMALL))
    # A text cannot write special tokens.
    assert [SMALL[i] for i in tokenizer.encode_batch(["[MASK]"])[0].ids] == ["[", "mask", "]"]


def test_trained_vocabulary(tmp_path):
    texts = [text_of(i) for i in range(50)]
    train_wordpiece(texts, 180, tmp_path / "v.txt")
    tokenizer = Tokenizer.load(tmp_path / "v.txt")
    special = tokenizer.special
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (
        0, 100, 101, 102, 103)  # fmt: skip
    assert tokenizer.vocab["[unused0]"] == 1
    assert tokenizer.vocab_size <= 180
    assert special.unk not in [i for e in tokenizer.encode_batch(texts) for i in e.ids]
    assert "the" in tokenizer.vocab  # a frequent word is one piece
    # Another process, with another hash seed, makes the same file.
    code = (
        "import sys; from input_pipeline.texts.tokenizer import train_wordpiece; "
        "train_wordpiece(sys.stdin.read().split('\\n'), 180, sys.argv[1])"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w.txt")],
        input="\n".join(texts), text=True, check=True, env={"PYTHONHASHSEED": "5"},
        cwd=__file__.rsplit("/tests/", 1)[0],
    )  # fmt: skip
    assert (tmp_path / "w.txt").read_bytes() == (tmp_path / "v.txt").read_bytes()
    with pytest.raises(DataError, match=r"(?s)too small.*vocab_size >= 1\d\d.*110"):
        train_wordpiece(texts, 110, tmp_path / "x.txt")
    with pytest.raises(DataError, match="0 words"):
        train_wordpiece([" "], 180, tmp_path / "x.txt")
    assert not (tmp_path / "x.txt").exists()


def test_bad_vocabularies(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"(?s)twice.*line 6.*'a'"):
        Tokenizer.load(vocabulary(tmp_path, [*SMALL, "a"]))
    with pytest.raises(DataError, match=r"(?s)lacks special.*\[MASK\].*vocab\.txt|vocab\.txt"):
        Tokenizer.load(vocabulary(tmp_path, SMALL[:4]))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"(?s)not UTF-8.*latin\.txt"):
        Tokenizer.load(tmp_path / "latin.txt")
    with pytest.raises(DataError, match=r"(?s)not found.*nowhere\.txt.*no such file.*data\.vocab"):
        Tokenizer.load("nowhere.txt")
    import huggingface_hub

    def offline(name, file):
        raise OSError("offline\nmore")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(DataError, match=r"(?s)'bert-base-uncased'.*hub says OSError: offline\n"):
        Tokenizer.load("bert-base-uncased")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda n, f: str(vocabulary(tmp_path)))
    assert Tokenizer.load("bert-base-uncased").vocab_size == len(SMALL)


def test_bert_vocabulary():
    path = REAL / "bert_uncased_vocab" / "vocab.txt"
    if not path.is_file():
        pytest.skip(f"no BERT vocabulary at {path} (set VL_DATA_DIR_REAL)")
    tokenizer = Tokenizer.load(path)
    assert tokenizer.special == SpecialIds(0, 100, 101, 102, 103, vocab_size=30522)
    assert tokenizer.encode_batch(["Two zebras."])[0].ids == [2048, 29145, 2015, 1012]
