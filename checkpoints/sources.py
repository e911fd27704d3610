"""Opens sources of parameters: runs, shared folders, published files, the hub."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checkpoints import checkpoint, share
from checkpoints.state_files import PICKLED, STATE_FILES, SourceError, read_folder, read_state
from core import remote, strict_json
from input_pipeline.texts import vocabulary
from vl_models import loading
from vl_models.heads import HeadSpec
from vl_models.heads import specs as head_specs
from vl_models.published import heads as published_heads
from vl_models.published import translate

__all__ = ["Source", "SourceError", "open_source", "read_state"]

_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclasses.dataclass(frozen=True)
class Source:
    """Parameters from elsewhere, under our names.

    Attributes:
      place: what was opened.
      kind: "run", "folder" (shared by this project), or a kind of published model
        (`names.RULES`).
      arrays: {our path: array}.
      names: {our path: name in the source}.
      dropped: {name in the source: why it is of no use}.
      pieces: vocabulary by id, None where unknown.
      answers: answer list of the answer heads, None where unknown.
      config: a run's whole config, {} where unknown.
      data_metadata: what the source says of its data (feature spec), {} where unknown.
      step: of training, None where unknown.
      heads: {head: how it is built}; {} where neither the checkpoint nor its kind says so, as in
        runs and folders of earlier versions.
    """

    place: str
    kind: str
    arrays: Mapping[str, np.ndarray]
    names: Mapping[str, str]
    dropped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pieces: Sequence[str] | None = None
    answers: Sequence[str] | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data_metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    step: int | None = None
    heads: Mapping[str, HeadSpec] = dataclasses.field(default_factory=dict)

    def names_of(self, head: str, named_by: str) -> Sequence[str] | None:
        """What the outputs of a head are called, by number; None where that is unknown.

        Args:
          head: its name.
          named_by: the list that they are of, "answers" or "labels"; where the source does not
            describe its heads, it has one of each.
        """
        if head in self.heads and self.heads[head].names:
            return self.heads[head].names
        listed = {"answers": self.answers, "labels": self.data_metadata.get("labels")}
        return listed.get(named_by) or None


def open_source(place: str, *, kind: str = "", vocab: str = "") -> Source:
    """Opens parameters by what is at a place.

    Args:
      place: a run's folder (or its checkpoints, or one step), a folder written by `convert`, a
        published file (.safetensors; .bin, .pth, .pt, .model, .tar with torch), a folder that
        holds one, or a name on the hub. On gs:// all but the checkpoints is copied to this machine.
      kind: of published model, where its names alone mislead; empty: by the names.
      vocab: vocab.txt of a published file that has none beside it.

    Raises:
      SourceError: nothing there, or something that is not understood.
      checkpoint.CheckpointError: a damaged run.
    """
    path = locate(place)
    if checkpoint.holds_one(path):
        return _from_run(place)
    if path.is_dir():
        path = remote.mirror(path)
    if path.is_dir() and share.is_folder(path):
        return _from_folder(place, path)
    if path.is_dir():
        return _published(place, read_folder(path), path, kind, vocab)
    return _published(place, read_state(remote.local(path)), path.parent, kind, vocab)


def locate(place: str) -> remote.Path:
    """The path of parameters; what is on the hub is downloaded once.

    Raises:
      SourceError: no such path and no name either, or the hub cannot be reached.
    """
    remote.require(place, "parameters")
    path = remote.path(place)
    return path if path.exists() else _download(place)


def _from_run(place: str) -> Source:
    params, meta = checkpoint.load_params(place)
    flat = loading.flatten(params)
    data_metadata = meta.get("facts", {})
    return Source(
        place=str(place),
        kind="run",
        arrays=flat,
        names={path: path for path in flat},
        pieces=data_metadata.get("pieces"),
        answers=data_metadata.get("answers"),
        config=meta.get("config", {}),
        data_metadata=data_metadata,
        step=meta["step"],
        heads=head_specs(meta.get("heads", {})),
    )


def _from_folder(place: str, path: pathlib.Path) -> Source:
    shared = share.read(path)
    return Source(
        place=str(place),
        kind="folder",
        arrays=shared.arrays,
        names={name: name for name in shared.arrays},
        pieces=shared.pieces,
        answers=shared.answers,
        config=shared.config,
        data_metadata=shared.data_metadata,
        step=shared.step,
        heads=shared.heads,
    )


def _published(
    place: str, state: Mapping[str, np.ndarray], folder: remote.Path, kind: str, vocab: str
) -> Source:
    if kind and kind not in translate.RULES:
        raise SourceError(
            "an unknown kind of published model",
            where="--kind",
            expected=f"one of {', '.join(sorted(translate.RULES))}",
            found=kind,
        )
    try:
        state = translate.plain_names(state)
        kind = kind or translate.kind_of(state)
        found = translate.translate(kind, state)
        heads = published_heads.specs(kind, found.arrays)
    except (KeyError, ValueError) as error:
        raise SourceError(f"{place}: {error.args[0]}") from error
    except (IndexError, TypeError) as error:  # names as they should be, on arrays that are not
        raise SourceError(f"{place}: arrays have other axes than in a {kind}: {error}") from error
    return Source(
        place=str(place),
        kind=kind,
        arrays=found.arrays,
        names=found.names,
        dropped=found.dropped,
        pieces=_pieces(folder, kind, vocab),
        heads=heads,
    )


def _pieces(folder: remote.Path, kind: str, vocab: str) -> list[str] | None:
    """The vocabulary beside a published file, in WordPiece's writing."""
    if vocab:
        return vocabulary.read(vocab)
    if kind == "roberta":
        path = folder / "vocab.json"
        return _roberta_pieces(path) if path.is_file() else None
    path = folder / vocabulary.FILE
    return vocabulary.read(path) if path.is_file() else None


def _roberta_pieces(path: remote.Path) -> list[str]:
    """Pieces by id of a byte-level vocabulary, JSON {piece: id}.

    Raises:
      SourceError: it is none.
    """
    try:
        ids = strict_json.parse(path.read_bytes())
        pieces = sorted(ids, key=ids.get)
        if [ids[piece] for piece in pieces] != list(range(len(pieces))):
            raise ValueError(f"{len(pieces)} pieces whose ids are not 0 to {len(pieces) - 1}")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SourceError(
            "a vocabulary is not understood",
            where=str(path),
            expected="JSON: {piece: id}, ids from 0 on, each once",
            found=f"{type(error).__name__}: {error}",
            fix="download it again",
        ) from error
    return [_wordpiece(piece) for piece in pieces]


_ROBERTA_SPECIALS = {
    "<pad>": "[PAD]",
    "<unk>": "[UNK]",
    "<s>": "[CLS]",
    "</s>": "[SEP]",
    "<mask>": "[MASK]",
}


def _wordpiece(piece: str) -> str:
    """A byte-level piece as WordPiece writes it: Ġ begins a word, everything else goes on."""
    if piece in _ROBERTA_SPECIALS:
        return _ROBERTA_SPECIALS[piece]
    return piece[1:] if piece.startswith("Ġ") else f"##{piece}"


def _download(name: str) -> pathlib.Path:
    """The folder of a hub name, downloaded once.

    Raises:
      SourceError: no such path and no name either, or the hub cannot be reached.
    """
    file = pathlib.PurePath(name).suffix in (".safetensors", *PICKLED)
    if file or remote.is_remote(name) or not _HUB.fullmatch(str(name)):
        raise SourceError(f"{name}: no such file or folder")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise SourceError(
            f"{name}: no such file or folder; to take it as a name on the hub, "
            "pip install huggingface_hub"
        ) from error
    try:
        wanted = ["*.json", vocabulary.FILE, "*.md", share.SUMS]
        wanted += [*STATE_FILES[:1], "model-*.safetensors"]
        folder = pathlib.Path(snapshot_download(name, allow_patterns=wanted))
        if not list(folder.glob("*.safetensors")):
            folder = pathlib.Path(snapshot_download(name, allow_patterns=[*wanted, "*.bin"]))
    except Exception as error:  # the network has many ways to fail
        reason = (str(error).splitlines() or [""])[0][:200]
        raise SourceError(
            "a checkpoint was not found",
            where=repr(name),
            expected="a file or folder here, or the name of a model on the hub",
            found=f"no such path, and the hub says {type(error).__name__}: {reason}",
            fix=f"with a network: hf download {name} --local-dir FOLDER; then name FOLDER",
        ) from error
    return folder
