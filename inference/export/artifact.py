"""Writes the folder of a task: programs, weights, what they read, and the loader."""

import inspect
import json
import pathlib
import shutil
from collections.abc import Sequence

from checkpoints.sources import SourceError
from core.errors import ConfigError
from core.progress import atomic_folder
from inference.export import description, loader
from inference.export.task import KNOWN, Task, plain
from inference.tasks import TaskModel
from input_pipeline.texts import vocabulary

PLATFORMS = ("cpu", "cuda", "tpu")
CONFIG, WEIGHTS, EXAMPLE, LOADER, CARD = (
    "config.json",
    "model.safetensors",
    "example.safetensors",
    "load.py",
    "README.md",
)


def write(
    model: TaskModel,
    folder: str,
    verb: str = "",
    *,
    task: str = "",
    batch_sizes: Sequence[int] = (1, 8, 32),
    platforms: Sequence[str] = PLATFORMS,
    onnx: bool = False,
    **options: int,
) -> Task:
    """Writes a new folder, whole or not at all; see `inference.export`.

    Args:
      model: that is exported.
      folder: new.
      verb: of KNOWN; empty: the first that the model can.
      task: stream of the run, see `TaskModel`.
      batch_sizes: of the programs; the loader pads to these.
      platforms: of PLATFORMS.
      onnx: whether to write an ONNX model for each size of batch, too.
      options: masks (1) and top_k (5) of fill_mask.

    Raises:
      ConfigError: what cannot be exported.
      DataError: the folder exists.
    """
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise SourceError("exporting needs safetensors\n  fix: pip install safetensors") from error
    unknown = sorted(set(platforms) - set(PLATFORMS))
    if unknown or not platforms:
        raise ConfigError("unknown platforms", expected=f"of {PLATFORMS}", found=unknown or "none")
    if not batch_sizes or min(batch_sizes) < 1:
        raise ConfigError("batch_sizes are no sizes", expected="from 1 on", found=batch_sizes)
    able = [name for name in model.abilities if name in KNOWN]
    made, sizes = Task(model, verb or able[0], task, **options), sorted(set(batch_sizes))
    batch = made.batch(sizes[0])
    with atomic_folder(folder, last=CONFIG) as temporary:
        for size in sizes:
            for platform in platforms:
                blob = made.exported(size, platform).serialize()
                (temporary / f"{platform}-{size}.jaxexport").write_bytes(blob)
            if onnx:
                (temporary / f"onnx-{size}.onnx").write_bytes(made.onnx(size))
        outputs = model.run(made.program, batch)
        arrays = {f"inputs/{name}": batch[name] for name in made.inputs}
        arrays |= {f"outputs/{name}": array for name, array in outputs.items()}
        save_file({name: plain(array) for name, array in arrays.items()}, temporary / EXAMPLE)
        save_file(made.weights, temporary / WEIGHTS)
        for name in (EXAMPLE, WEIGHTS):  # else for their owner alone
            (temporary / name).chmod(0o644)
        vocabulary.write(temporary / vocabulary.FILE, model.pieces)
        config = description.config(model, made, sizes, platforms, batch, outputs)
        _text(temporary / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        shutil.copyfile(inspect.getfile(loader), temporary / LOADER)
        _text(temporary / CARD, description.card(config))
    return made


def _text(path: pathlib.Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
