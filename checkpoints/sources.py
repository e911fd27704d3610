"""Opens sources of parameters: runs, shared folders, published files, the hub."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checkpoints import checkpoint, share
from core import remote
from core.errors import UserError
from vl_models import loading
from vl_models.heads import HeadSpec
from vl_models.heads import specs as head_specs
from vl_models.published import heads as published_heads
from vl_models.published import translate

# Files that hold a state dict, the safe format first.
STATE_FILES = ("model.safetensors", "pytorch_model.bin")
PICKLED = (".bin", ".pth", ".pt", ".model", ".tar")
# Where training scripts put the parameters among their other state.
_INNER = ("state_dict", "model_state_dict", "model")
_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")


class SourceError(UserError):
    """Parameters that cannot be opened; the message says which, why and what to do."""


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
    remote.require(place, "parameters")
    path = remote.path(place)
    if checkpoint.holds_one(path):
        return _from_run(place)
    if path.is_dir():
        path = remote.mirror(path)
    if path.is_dir() and share.is_folder(path):
        return _from_folder(place, path)
    if not path.exists():
        path = _download(place)
    if path.is_dir():
        state, folder = _state_of_folder(path)
        return _published(place, state, folder, kind, vocab)
    return _published(place, read_state(remote.local(path)), path.parent, kind, vocab)


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
    state = translate.plain_names(state)
    try:
        kind = kind or translate.kind_of(state)
        found = translate.translate(kind, state)
    except (KeyError, ValueError) as error:
        raise SourceError(f"{place}: {error.args[0]}") from error
    return Source(
        place=str(place),
        kind=kind,
        arrays=found.arrays,
        names=found.names,
        dropped=found.dropped,
        pieces=_pieces(folder, kind, vocab),
        heads=published_heads.specs(kind, found.arrays),
    )


def _pieces(folder: remote.Path, kind: str, vocab: str) -> list[str] | None:
    """The vocabulary beside a published file, in WordPiece's writing."""
    if vocab:
        return remote.path(vocab).read_text(encoding="utf-8").splitlines()
    if kind == "roberta":
        path = folder / "vocab.json"
        if not path.is_file():
            return None
        ids = json.loads(path.read_text(encoding="utf-8"))
        return [_wordpiece(piece) for piece in sorted(ids, key=ids.get)]
    path = folder / "vocab.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else None


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


def _state_of_folder(folder: pathlib.Path) -> tuple[dict[str, np.ndarray], pathlib.Path]:
    """(state dict, folder) of a folder as the hub has it, in one file or several."""
    for name in STATE_FILES:
        if (folder / name).is_file():
            return read_state(folder / name), folder
        index = folder / f"{name}.index.json"
        if index.is_file():
            files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            state: dict[str, np.ndarray] = {}
            for file in files:
                state |= read_state(folder / file)
            return state, folder
    raise SourceError(
        f"{folder} holds no parameters: expected a run's checkpoints, a folder written by "
        f"`python -m checkpoints.convert`, or one of {', '.join(STATE_FILES)}; found "
        f"{sorted(p.name for p in folder.iterdir())[:10]}"
    )


def read_state(path: pathlib.Path) -> dict[str, np.ndarray]:
    """A published file's state dict as numpy arrays, in the file's own types.

    Pickled files are opened with weights-only loading, which runs none of their code.

    Raises:
      SourceError: an unknown ending, a missing package, a damaged file, or no state dict in it.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in PICKLED:
        raise SourceError(f"{path}: expected .safetensors or one of {', '.join(PICKLED)}")
    try:
        import torch
    except ImportError as error:
        raise SourceError(
            f"{path} is a PyTorch file, and PyTorch is not installed\n  fix: pip install torch "
            "(only for such files), or get the .safetensors file of the same checkpoint"
        ) from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise a dozen kinds
        raise SourceError(
            f"{path} cannot be read as a PyTorch file of weights alone: {type(error).__name__}: "
            f"{str(error)[:300]}"
        ) from error
    for name in _INNER:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
            break
    tensors = {k: v for k, v in found.items() if isinstance(v, torch.Tensor)} if found else {}
    if not isinstance(found, dict) or not tensors:
        raise SourceError(f"{path} holds no state dict: expected tensors by name")
    # PyTorch gives numpy no bfloat16.
    wide = torch.bfloat16
    return {k: (v.float() if v.dtype == wide else v).numpy() for k, v in tensors.items()}


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise SourceError(f"{path}: pip install safetensors") from error
    try:
        try:
            return load_file(path)
        except KeyError:  # bfloat16, which the numpy reader does not know
            from safetensors.flax import load_file as load_flax

            return {name: np.asarray(array) for name, array in load_flax(path).items()}
    except (SafetensorError, OSError) as error:
        raise SourceError(f"{path} is no sound safetensors file: {error}") from error


def _download(name: str) -> pathlib.Path:
    """The folder of a hub name, downloaded once.

    Raises:
      SourceError: no such path and no name either, or the hub cannot be reached.
    """
    if remote.is_remote(name) or not _HUB.fullmatch(str(name)):
        raise SourceError(f"{name}: no such file or folder")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise SourceError(
            f"{name}: no such file or folder; to take it as a name on the hub, "
            "pip install huggingface_hub"
        ) from error
    try:
        wanted = ["*.json", "vocab.txt", "*.md", *STATE_FILES[:1], "model-*.safetensors"]
        folder = pathlib.Path(snapshot_download(name, allow_patterns=wanted))
        if not list(folder.glob("*.safetensors")):
            folder = pathlib.Path(snapshot_download(name, allow_patterns=[*wanted, "*.bin"]))
    except Exception as error:  # the network has many ways to fail
        raise SourceError(
            f"{name}: no such file or folder here, and the hub does not give it: "
            f"{type(error).__name__}: {str(error)[:200]}"
        ) from error
    return folder
