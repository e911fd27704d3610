"""Uncased BERT WordPiece through the `tokenizers` library, and training a small vocabulary."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import xxhash
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers

from core import remote
from core.errors import DataError
from input_pipeline.schema import SpecialIds
from input_pipeline.texts import vocabulary, wordpiece
from input_pipeline.texts.plain_words import Pieces, PlainWords, is_plain

SPECIALS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One text in pieces.

    Attributes:
      ids: vocabulary ids, without [CLS] and [SEP].
      word_starts: True at the first piece of each basic token (split at whitespace and
        punctuation, as BERT's basic tokeniser does).
      spans: (start, end) of each piece in characters of the text as given.
    """

    ids: list[int]
    word_starts: list[bool]
    spans: list[tuple[int, int]]


class Tokenizer:
    """Lower-cases, strips accents, splits and cuts into pieces, as `bert-base-uncased`.

    "[MASK]" and its like in a text are ordinary characters: data must not be able to write
    special tokens.

    Attributes:
      special: SpecialIds, with the size of the vocabulary.
      pieces: of the vocabulary, by id.
      vocab: {piece: id}.
      fingerprint: hex digest of the vocabulary.
    """

    def __init__(self, pieces: list[str], where: str):
        self.pieces = pieces
        self.vocab = {piece: i for i, piece in enumerate(pieces)}
        if len(self.vocab) != len(pieces):
            twice = next(piece for i, piece in enumerate(pieces) if self.vocab[piece] != i)
            raise DataError(
                "a vocabulary has a piece twice",
                where=f"{where}, line {pieces.index(twice) + 1}",
                expected="one line per piece",
                found=repr(twice),
                fix="take the vocabulary that the checkpoint came with",
            )
        missing = [token for token in SPECIALS.values() if token not in self.vocab]
        if missing:
            raise DataError(
                "a vocabulary lacks special tokens",
                where=where,
                expected=list(SPECIALS.values()),
                found=f"no {missing} in {len(pieces)} lines",
                fix="take a BERT vocab.txt",
            )
        ids = {name: self.vocab[token] for name, token in SPECIALS.items()}
        self.special = SpecialIds(**ids, vocab_size=len(pieces))
        self.fingerprint = xxhash.xxh3_64_hexdigest("\n".join(pieces).encode())
        self._backend = Backend(models.WordPiece(self.vocab, unk_token=SPECIALS["unk"]))
        self._backend.normalizer = _normalizer()
        self._backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._plain = PlainWords(self._ids_of)

    @classmethod
    def load(cls, vocab: str | os.PathLike) -> "Tokenizer":
        """Loads a vocabulary.

        Args:
          vocab: path of a vocab.txt (one piece a line) or of a folder that holds one, or the
            name of a model on the Hugging Face hub, whose vocab.txt is fetched and cached.

        Raises:
          DataError: no such file or model, a piece twice, special tokens missing.
        """
        path = remote.path(vocab)
        if path.is_dir():
            path = path / vocabulary.FILE
        if not path.is_file():
            path = _from_hub(str(vocab))
        return cls(vocabulary.read(path), str(path))

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.special.vocab_size

    def cut(self, texts: Sequence[str]) -> Pieces:
        """The same pieces as `encode_batch`, side by side, without their places; much faster."""
        plain = [is_plain(text) for text in texts]
        if all(plain):
            return self._plain.cut(texts)
        first = self._plain.cut([text for text, own in zip(texts, plain, strict=True) if own])
        rest = self._side_by_side([text for text, own in zip(texts, plain, strict=True) if not own])
        joined = Pieces(
            np.concatenate([first.ids, rest.ids]),
            np.concatenate([first.word_starts, rest.word_starts]),
            np.concatenate([first.lengths, rest.lengths]),
        )
        order = np.empty(len(texts), np.int64)
        order[plain] = np.arange(len(first.lengths))
        order[~np.asarray(plain)] = len(first.lengths) + np.arange(len(rest.lengths))
        return joined.take(order)

    def _ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [item.ids for item in found]

    def _side_by_side(self, texts: Sequence[str]) -> Pieces:
        found = self._backend.encode_batch(list(texts), add_special_tokens=False)
        lengths = np.asarray([len(item) for item in found], np.int64)
        ids = np.asarray([i for item in found for i in item.ids], np.int32)
        words = np.asarray([word for item in found for word in item.word_ids], np.int64)
        starts = np.diff(words, prepend=-1) != 0
        starts[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
        return Pieces(ids, starts, lengths)

    def encode_batch(self, texts: Sequence[str]) -> list[Encoded]:
        """Cuts texts into pieces, in parallel threads."""
        encoded = []
        for item in self._backend.encode_batch(list(texts), add_special_tokens=False):
            words = item.word_ids
            starts = [i == 0 or words[i] != words[i - 1] for i in range(len(words))]
            encoded.append(Encoded(item.ids, starts, item.offsets))
        return encoded

    def decode(self, ids: Iterable[int]) -> str:
        """Pieces joined to words, for people to read."""
        kept = (self.pieces[i] for i in ids if i != self.special.pad)
        return " ".join(kept).replace(" ##", "")


def _normalizer() -> normalizers.BertNormalizer:
    return normalizers.BertNormalizer(lowercase=True)


def _from_hub(name: str) -> pathlib.Path:
    failure = "no such file"
    named = not name.endswith(".txt") and not remote.is_remote(name)
    if named and name.count("/") <= 1 and not name.startswith((".", "/")):
        try:
            import huggingface_hub

            return pathlib.Path(huggingface_hub.hf_hub_download(name, vocabulary.FILE))
        except ImportError:
            failure = "no such file, and huggingface_hub is not installed"
        except Exception as error:  # offline, no such model, no vocab.txt
            reason = (str(error).splitlines() or [""])[0]
            failure = f"no such file, and the hub says {type(error).__name__}: {reason}"
    raise DataError(
        "the vocabulary was not found",
        where=repr(name),
        expected="the path of a vocab.txt, or the name of a model on the hub",
        found=failure,
        fix="set --config.data.vocab to a BERT vocab.txt on this disk",
    )


def train_wordpiece(texts: Iterable[str], size: int, path: str | os.PathLike) -> None:
    """Trains a vocabulary and writes it to `path`, whole or not at all.

    The special tokens stand at the ids they have in BERT's vocabulary, so that code and
    checkpoints that rely on those work with it. The same texts give the same file.

    Args:
      texts: training texts.
      size: pieces at most, special and [unused] ones included; fewer where the texts are used up.
      path: of the vocab.txt to write.

    Raises:
      DataError: `size` leaves no room beside the special tokens, or there are no texts.
    """
    head = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer, splitter = _normalizer(), pre_tokenizers.BertPreTokenizer()

    def words() -> Iterator[str]:
        for text in texts:
            for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
                yield word

    pieces = wordpiece.train(words(), size - len(head))
    vocabulary.write(path, [*head, *pieces])
