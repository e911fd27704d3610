"""Published state dicts: one file or several, safetensors or pickled weights."""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from core import strict_json
from core.errors import UserError
from core.messages import brief, clip

# Files that hold a state dict, the safe format first.
STATE_FILES = ("model.safetensors", "pytorch_model.bin")
PICKLED = (".bin", ".pth", ".pt", ".model", ".tar")
# Where training scripts put the parameters among their other state.
_INNER = ("state_dict", "model_state_dict", "model")
# Types of safetensors that are numbers by themselves. Narrower ones (float8, float4) stand for
# other numbers, which scales in tensors beside them give.
_PLAIN = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "BF16", "F32", "F64"}


class SourceError(UserError):
    """Parameters that cannot be opened; the message says which, why and what to do."""


def read_folder(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The state dict of a folder as the hub has it, in one file or several.

    Raises:
      SourceError: none there, or a file of it that cannot be read.
    """
    for name in STATE_FILES:
        if (folder / name).is_file():
            return read_state(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            state: dict[str, np.ndarray] = {}
            for file in _parts(index):
                state |= read_state(folder / file)
            return state
    raise SourceError(
        f"{folder} holds no parameters: expected a run's checkpoints, a folder written by "
        f"`python -m checkpoints.convert`, or one of {', '.join(STATE_FILES)}; found "
        f"{sorted(p.name for p in folder.iterdir())[:10]}"
    )


def _parts(index: pathlib.Path) -> list[str]:
    """The files that an index names, all of them in its own folder.

    Raises:
      SourceError: it is no index, or it names files elsewhere, which it may not read.
    """

    def wrong(found: str) -> SourceError:
        return SourceError(
            "the index of a published checkpoint is not understood",
            where=str(index),
            expected='JSON: {"weight_map": {name of an array: name of a file beside the index}}',
            found=found,
            fix="download it again",
        )

    try:
        found = strict_json.parse(index.read_bytes())
    except (OSError, ValueError) as error:
        raise wrong(f"{type(error).__name__}: {error}") from error
    listed = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise wrong("no weight_map")
    ending = "." + index.name.removesuffix(".index.json").rpartition(".")[2]
    for name, file in listed.items():
        plain = isinstance(file, str) and pathlib.PurePath(file).name == file and "\\" not in file
        if not plain or not file.endswith(ending) or "\0" in file:
            raise wrong(f"{brief(name)} in {brief(file)}")
        if not (index.parent / file).is_file():
            raise wrong(f"{brief(file)}, which is not there")
    return sorted(set(listed.values()))


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
    values = found if isinstance(found, dict) else {}
    tensors = {
        k: v for k, v in values.items() if isinstance(k, str) and isinstance(v, torch.Tensor)
    }
    if not tensors:
        raise SourceError(f"{path} holds no state dict: expected tensors by name")
    try:
        # PyTorch gives numpy no bfloat16.
        wide = torch.bfloat16
        return {k: (v.float() if v.dtype == wide else v).numpy() for k, v in tensors.items()}
    except (TypeError, RuntimeError) as error:  # float8, sparse, quantised, without storage
        raise SourceError(
            f"{path} holds tensors that are no plain arrays: {str(error)[:300]}\n"
            "  fix: get the same checkpoint in float32 or float16"
        ) from error


def writer(path: str) -> Callable[[pathlib.Path, Mapping[str, np.ndarray]], None]:
    """write(file, state dict) in the format that the ending of `path` names.

    Raises:
      SourceError: an unknown ending, or a missing package.
    """
    suffix = pathlib.PurePath(path).suffix
    if suffix == ".safetensors":
        try:
            from safetensors.numpy import save_file
        except ImportError as error:
            raise SourceError(f"{path}: pip install safetensors") from error
        return lambda file, state: save_file(dict(state), file)
    if suffix not in PICKLED:
        raise SourceError(f"{path}: expected .safetensors or one of {', '.join(PICKLED)}")
    try:
        import torch
    except ImportError as error:
        raise SourceError(
            f"{path} is to be a PyTorch file, and PyTorch is not installed\n  fix: pip install "
            "torch, or write a .safetensors file"
        ) from error

    def write(file: pathlib.Path, state: Mapping[str, np.ndarray]) -> None:
        torch.save({name: torch.from_numpy(array.copy()) for name, array in state.items()}, file)

    return write


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.numpy import load_file
    except ImportError as error:
        raise SourceError(f"{path}: pip install safetensors") from error
    try:
        with safe_open(path, framework="np") as file:
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        foreign = {name: kind for name, kind in types.items() if kind not in _PLAIN}
        if foreign:
            name, kind = next(iter(foreign.items()))
            raise SourceError(
                "a published checkpoint holds numbers that mean nothing without their scales",
                where=f"{path}, {name!r}",
                expected=f"arrays of {', '.join(sorted(_PLAIN))}",
                found=f"{kind}, as {len(foreign)} of {len(types)} arrays are",
                fix="get the same checkpoint in float32, float16 or bfloat16",
            )
        try:
            return load_file(path)
        except KeyError:  # bfloat16, which the numpy reader of earlier versions does not know
            from safetensors.flax import load_file as load_flax

            return {name: np.asarray(array) for name, array in load_flax(path).items()}
    except (SafetensorError, OSError) as error:
        raise SourceError(
            f"{path} is no sound safetensors file: {clip(ascii(str(error)), 500)}"
        ) from error
