"""The examples of docs/extending.md work as they stand there."""

import importlib
import json
import pathlib
import re
import sys

import numpy as np
import pytest

from input_pipeline.doctor.verify import verify
from input_pipeline.importers import known, run
from input_pipeline.regions import RegionStore
from training import loop

DOC = pathlib.Path(__file__).parents[1] / "docs" / "extending.md"
BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = dict(BLOCK.findall(DOC.read_text()))
F = 8


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """The examples beside the modules of their packages, and forgotten afterwards."""
    root = tmp_path_factory.mktemp("added")
    modules = []
    with pytest.MonkeyPatch.context() as patch:
        for name, code in BLOCKS.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code)
            package = importlib.import_module(".".join(path.relative_to(root).parts[:-1]))
            if str(path.parent) not in package.__path__:
                patch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
            modules.append((package, path.stem))
        importlib.invalidate_caches()
        yield
    for package, name in modules:
        sys.modules.pop(f"{package.__name__}.{name}", None)
        vars(package).pop(name, None)
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Folder of prepared scenes, which runs share."""
    return str(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def store(added, tmp_path_factory):
    """A store imported by the new layout; an image's first numbers say the opinion of it."""
    folder = tmp_path_factory.mktemp("features")
    for number in range(24):
        features = np.eye(F)[[number % 3, 3 + number % 5]]
        record = dict(
            width=60, height=40, boxes=[[0, 0, 20, 20], [10, 5, 50, 30]], features=features.tolist()
        )
        (folder / f"{number}.json").write_text(json.dumps(record))
    run.convert("plain_json", sorted(map(str, folder.glob("*.json"))), folder / "store")
    return folder / "store"


def config_of(name, **stream):
    """The config of an example, made small."""
    config = importlib.import_module(f"configs.{name}").get_config("size=mini")
    config.total_steps = config.eval_every = config.checkpoint.every = 3
    config.log_every = 1
    config.optimizer.warmup_steps = 1
    config.model.hidden, config.model.intermediate = 32, 32
    (block,) = config.streams.values()
    block.batch_size = config.evals.validation.batch_size = 8
    block.update(stream)
    return config


def small_scenes(config, folder):
    config.data.dir = folder
    config.data.vocab_size = 300
    config.data.scenes.update(train=20, validation=8, test=8, feature_dim=16)
    return config


def test_every_kind_of_addition_has_an_example():
    packages = {name.rpartition("/")[0] for name in BLOCKS}
    assert packages == {
        "configs",
        "input_pipeline/datasets",
        "input_pipeline/importers",
        "objectives",
        "objectives/options",
        "vl_models",
    }


@pytest.mark.slow
def test_a_new_objective_trains(added, scenes, tmp_path):
    config = small_scenes(config_of("caption_length"), scenes)
    config.model.layers = 1
    summary = loop.run(config, tmp_path)
    assert 0 <= summary["how_long_accuracy"] <= 1


@pytest.mark.slow
def test_a_new_model_trains(added, scenes, tmp_path):
    summary = loop.run(small_scenes(config_of("bag_pretrain"), scenes), tmp_path)
    assert summary["train"]["step"] == 3
    assert np.isfinite(summary["losses"]["masked_language"])


def test_a_new_layout_is_imported(store):
    assert known()["plain_json"].startswith("One JSON file per image")
    opened = RegionStore.open(store)
    assert len(opened) == 24
    assert opened.spec.feature_dim == F
    assert verify(str(store)) == 0


@pytest.mark.slow
def test_a_new_data_set_trains_on_labels_of_its_own(store, tmp_path):
    opinions = ("bad", "neutral", "good")
    for split, numbers in (("train", range(16)), ("test", range(16, 24))):
        lines = [f'{n},{n},"What a {n % 7} picture, yes",{opinions[n % 3]}' for n in numbers]
        text = "\n".join(["id,image_id,text,opinion", *lines])
        (tmp_path / f"sentiment_{split}.csv").write_text(text)
    config = config_of("sentiment", max_text=12, max_regions=4, max_length=16)
    config.model.layers = 1
    config.data.update(
        dir=str(tmp_path / "data"), manual_dir=str(tmp_path), regions=str(store), vocab_size=200
    )
    summary = loop.run(config, tmp_path / "run")
    assert 0 <= summary["classification_accuracy"] <= 1
    saved = json.loads((tmp_path / "run/checkpoints/3/meta/metadata").read_text())
    assert tuple(saved["heads"]["classification"]["names"]) == opinions
