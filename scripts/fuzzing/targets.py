"""What is fuzzed: how a sound input is made, and how it is read.

A target is guarded where its files carry digests: there no damage may change a value in silence.
Elsewhere (a float in a .npy file) nobody can tell a damaged value from another one.
"""

import dataclasses
import fcntl
import functools
import hashlib
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping

import numpy as np

from scripts.fuzzing.annotations import DATASETS
from scripts.fuzzing.layout_variants import LAYOUT_VARIANTS
from scripts.fuzzing.layouts import LAYOUTS, F, image
from scripts.fuzzing.lists import LISTS
from scripts.fuzzing.variants import VARIANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
Values = dict[str, str]  # {name: digest}
WORDS = ("the", "red", "dog", "sits", "left", "of", "house")


@dataclasses.dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
      write: write(folder), makes a sound input in an empty folder.
      read: read(folder, number of the case) → digests of all values; raises UserError.
      guarded: whether a changed value must be noticed.
      megabytes: of private memory that reading may take.
      seconds: that it may take.
      prepare: imports what reading needs.
    """

    write: Callable[[pathlib.Path], object]
    read: Callable[[pathlib.Path, int], Values]
    guarded: bool = False
    megabytes: int = 512
    seconds: float = 30.0
    prepare: Callable[[], None] = lambda: None


def digest(value: object) -> str:
    """Of arrays by their bytes, of anything else by its text."""
    if isinstance(value, np.ndarray):
        head, data = f"{value.dtype} {value.shape}", np.ascontiguousarray(value).tobytes()
    else:
        head, data = type(value).__name__, repr(value).encode("utf-8", "backslashreplace")
    return hashlib.sha256(head.encode() + data).hexdigest()[:16]


def _store_values(folder: pathlib.Path) -> Values:
    from input_pipeline.regions import RegionStore

    store = RegionStore.open(str(folder))
    values = {}
    for row, key in enumerate(store.keys):
        record = store.read(row)
        arrays = {name: array.copy() for name, array in record.items()}
        size = int(store.heights[row]), int(store.widths[row])
        values[key] = digest((size, {name: digest(array) for name, array in arrays.items()}))
    return values


def _layout(name: str, write: Callable[[pathlib.Path], object]) -> Target:
    """An import of a layout; every second case leaves bad images out, every third is inspected."""

    def read(folder: pathlib.Path, number: int) -> Values:
        from input_pipeline.doctor import __main__ as doctor
        from input_pipeline.importers import run
        from input_pipeline.importers.settings import ImportSettings

        files, options = _call(write)
        paths = [str(folder / file) for file in files]
        named = {key: str(folder / options[key]) for key in ("sizes", "id_map") if key in options}
        options = options | named
        if number % 3 == 2:
            flags = [f"--{key}={value}" for key, value in options.items()]
            doctor.main.__wrapped__(["inspect", *paths, f"--layout={name}", *flags])
        on_bad = ("error", "skip")[number % 2]
        settings = ImportSettings(dtype="float32", on_bad=on_bad, options=options)
        with tempfile.TemporaryDirectory() as made:
            run.convert(name, paths, pathlib.Path(made) / "store", settings)
            return _store_values(pathlib.Path(made) / "store")

    return Target(write, read)


@functools.cache
def _call(write: Callable) -> tuple:
    """What a writer says of its files: how they are named, and the options to read them with."""
    with tempfile.TemporaryDirectory() as folder:
        return write(pathlib.Path(folder))


def _dataset(name: str, write: Callable[[pathlib.Path], object]) -> Target:
    def read(folder: pathlib.Path, number: int) -> Values:
        del number
        module = importlib.import_module(f"input_pipeline.datasets.{name}")
        split, options = _call(write)
        found = module.records(str(folder), split, **options)
        return {f"{i}": digest(record) for i, record in enumerate(found)}

    return Target(write, read)


def _list(name: str) -> Target:
    write, read = LISTS[name]

    def values(folder: pathlib.Path, number: int) -> Values:
        del number
        return {f"{i}": digest(value) for i, value in enumerate(read(folder))}

    return Target(write, values)


def _jsonl(kind: str, rows: list[dict]) -> Target:
    def write(folder: pathlib.Path) -> None:
        (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def read(folder: pathlib.Path, number: int) -> Values:
        from ml_collections import ConfigDict

        from configs import common
        from input_pipeline.datasets.reading import jsonl_tasks

        keys = ConfigDict(common.data_block("jsonl")).json_keys
        skip = ("error", "skip")[number % 2]
        reader = jsonl_tasks.Reader(kind, keys, skip, trained=True, classes=("a", "b"))
        found = reader.records([str(folder / "x.jsonl")], "train")
        return {f"{i}": digest(record) for i, record in enumerate(found)}

    return Target(write, read)


def _write_store(folder: pathlib.Path, dtype: str = "float32") -> None:
    from input_pipeline.regions import FeatureSpec, RegionWriter

    spec = FeatureSpec(feature_dim=F, num_classes=5, background_class=0, detector="made",
                       dtype=dtype, top_k=2, max_regions=10, global_feature="mean")  # fmt: skip
    with RegionWriter(folder / "store", spec) as writer:
        for i in range(4):
            made = image(i)
            writer.add(
                f"img{i}",
                boxes=made["boxes"],
                features=made["features"],
                class_probs=made["cls_prob"],
                height=40,
                width=60,
            )


def _read_store(folder: pathlib.Path, number: int) -> Values:
    from input_pipeline.doctor import verify

    if number % 3 == 2:
        verify.verify(str(folder / "store"))
    return _store_values(folder / "store")


def _vocabulary(path: pathlib.Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "."]
    path.write_text("\n".join(pieces) + "\n")


def _write_table(folder: pathlib.Path) -> None:
    from input_pipeline.texts.tables import Row, build_table
    from input_pipeline.texts.tokenizer import Tokenizer

    vocabulary = folder.with_name(folder.name + "_vocab.txt")
    _vocabulary(vocabulary)
    rows = [
        Row(f"img{i % 3}", " ".join(WORDS[: 2 + i]), f"text{i}", values={"label": [i]})
        for i in range(5)
    ]
    build_table(rows, Tokenizer.load(vocabulary), folder / "table", source="made")


def _read_table(folder: pathlib.Path, number: int) -> Values:
    del number
    from input_pipeline.texts.tables import TextTable

    table = TextTable.open(folder / "table")
    rows = np.arange(len(table.source))
    arrays = table.gather(rows, 8) | table.values_of(rows) | dict(images=table.images_of(rows))
    names = dict(images=table.images, texts=[table.text_id(int(row)) for row in rows])
    return {key: digest(value) for key, value in (arrays | names).items()}


def _read_vocabulary(folder: pathlib.Path, number: int) -> Values:
    del number
    from input_pipeline.texts.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder / "vocab.txt")
    return {"pieces": digest(tokenizer.pieces), "ids": digest(tokenizer.encode_batch(WORDS))}


def _made_run(parent: pathlib.Path) -> pathlib.Path:
    """A run of two steps, as `main.py` leaves it; made once for the targets that read it."""
    run = parent / "made_run"
    with open(parent / "made_run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another target's process may be making it
        if not (run / "summary.json").is_file():
            _train(run)
    return run


def _train(run: pathlib.Path) -> None:
    small = dict(
        **{"data.dir": run.with_name("data_of_the_run"), "data.scenes.train": 48},
        **{"data.scenes.validation": 16, "data.scenes.test": 8, "data.vocab_size": 600},
        **{"model.hidden": 16, "model.layers": 1, "model.intermediate": 16, "model.heads": 2},
        **{"streams.captions.batch_size": 8, "streams.text.batch_size": 0},
        **{"evals.validation.batch_size": 8, "evals.visual_gain.batch_size": 8},
        **{"total_steps": 2, "log_every": 1, "optimizer.warmup_steps": 1},
    )
    command = [sys.executable, "main.py", "--config=configs/vlbert_pretrain.py"]
    command += [f"--workdir={run}", *(f"--config.{k}={v}" for k, v in small.items())]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def _write_run(folder: pathlib.Path) -> None:
    shutil.copytree(_made_run(folder.parent), folder / "run")


def _write_shared(folder: pathlib.Path) -> None:
    run = _made_run(folder.parent)
    command = [sys.executable, "-m", "checkpoints.convert", str(run), f"--out={folder / 'model'}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def _arrays(place: str) -> Values:
    from checkpoints import sources

    source = sources.open_source(place)
    known = dict(pieces=source.pieces, answers=source.answers)
    return {key: digest(np.asarray(value)) for key, value in source.arrays.items()} | {
        key: digest(list(value)) for key, value in known.items() if value is not None
    }


def _read_run(folder: pathlib.Path, number: int) -> Values:
    from training.run import metrics

    if number % 4 == 3:
        metrics.read(folder / "run" / "metrics.jsonl")
    return _arrays(str(folder / "run"))


def _write_config(folder: pathlib.Path) -> None:
    """What a run's folder says of its config."""
    from checkpoints import run_config
    from configs import vqa

    config = vqa.get_config("model=vlbert,size=mini")
    found = run_config.plain(config)
    (folder / "config.json").write_text(json.dumps(found, indent=2, sort_keys=True))
    command = dict(config="configs/vqa.py:model=vlbert,size=mini", overrides={"seed": 3})
    (folder / "command.json").write_text(json.dumps(command, indent=2))


def _read_config(folder: pathlib.Path, number: int) -> Values:
    """The config that `main.py --workdir=RUN` goes by, checked as it does."""
    del number
    from checkpoints import run_config
    from training import config_checks

    found = run_config.read(folder)
    if found is None:
        return {}
    config_checks.check(found.config)
    made = run_config.plain(found.config)
    return {"config": digest(json.dumps(made, sort_keys=True)), "command": digest(found.command)}


def _write_published(folder: pathlib.Path) -> None:
    """BERT's names in safetensors; beside it what the hub gives."""
    from safetensors.numpy import save_file

    rng, hidden = np.random.default_rng(0), 8
    layer = "bert.encoder.layer.0."
    shapes = {
        "bert.embeddings.word_embeddings.weight": (14, hidden),
        "bert.embeddings.position_embeddings.weight": (16, hidden),
        "bert.embeddings.token_type_embeddings.weight": (2, hidden),
        "bert.embeddings.LayerNorm.weight": (hidden,),
        "bert.embeddings.LayerNorm.bias": (hidden,),
    }
    for name in ("attention.self.query", "attention.self.key", "attention.self.value",
                 "attention.output.dense", "intermediate.dense", "output.dense"):  # fmt: skip
        shapes |= {f"{layer}{name}.weight": (hidden, hidden), f"{layer}{name}.bias": (hidden,)}
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes |= {f"{layer}{name}.weight": (hidden,), f"{layer}{name}.bias": (hidden,)}
    state = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(state, folder / "model.safetensors")
    _vocabulary(folder / "vocab.txt")


def _read_published(folder: pathlib.Path, number: int) -> Values:
    del number
    return _arrays(str(folder))


def _jax() -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    jax.devices()
    importlib.import_module("checkpoints.sources")


_HEAVY = dict(megabytes=3000, seconds=120.0, prepare=_jax)

TARGETS: Mapping[str, Target] = (
    {f"layout {name}": _layout(name, write) for name, write in LAYOUTS.items()}
    | {f"layout {name}": _layout(of, write) for name, (of, write) in LAYOUT_VARIANTS.items()}
    | {f"data set {name}": _dataset(name, write) for name, write in DATASETS.items()}
    | {f"data set {name}": _dataset(module, write) for name, (module, write) in VARIANTS.items()}
    | {f"list {name}": _list(name) for name in LISTS}
    | {
        "JSONL captions": _jsonl(
            "captions", [dict(image_id=f"i{i}", text=f"a dog {i}") for i in range(3)]
        ),
        "JSONL questions": _jsonl(
            "questions",
            [dict(image_id="i", text=f"what {i}?", answers=["a dog"]) for i in range(3)],
        ),
        "region store": Target(_write_store, _read_store, guarded=True),
        "region store int8": Target(
            functools.partial(_write_store, dtype="int8"), _read_store, guarded=True
        ),
        "text table": Target(_write_table, _read_table, guarded=True),
        "vocabulary": Target(lambda folder: _vocabulary(folder / "vocab.txt"), _read_vocabulary),
        "run": Target(_write_run, _read_run, guarded=True, **_HEAVY),
        "run config": Target(_write_config, _read_config, **_HEAVY),
        "shared folder": Target(
            _write_shared,
            lambda folder, number: _arrays(str(folder / "model")),
            guarded=True,
            **_HEAVY,
        ),
        "published weights": Target(_write_published, _read_published, **_HEAVY),
    }
)
