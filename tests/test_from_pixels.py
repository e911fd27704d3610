"""From pictures to a pre-trained model in one command, at toy size."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from checkpoints import detector
from input_pipeline.regions import RegionStore
from input_pipeline.regions.labels import Labels

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_pictures_to_detector_to_store_to_pretraining(tmp_path):
    command = [
        sys.executable, "scripts/from_pixels.py", f"--workdir={tmp_path / 'run'}",
        f"--data_dir={tmp_path / 'data'}", "--detector_steps=4", "--steps=4", "--pictures=24",
        "--evaluated=16", "--batch_size=4",
    ]  # fmt: skip
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    for again in (False, True):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        assert ("is done already" in done.stdout) == again
    found = json.loads((tmp_path / "run" / "detector" / "summary.json").read_text())
    assert 0 <= found["map50"] <= 1
    made = detector.load(str(tmp_path / "run" / "detector" / "detector"))
    store = RegionStore.open(tmp_path / "run" / "store")
    assert len(store) == 40
    assert made.digest() in store.spec.detector
    assert (store.spec.feature_dim, store.spec.background_class) == (512, 30)
    labels = Labels.open(str(tmp_path / "run" / "store"))
    assert labels.classes[:-1] == tuple(made.objects)
    trained = json.loads((tmp_path / "run" / "vlbert" / "summary.json").read_text())
    assert trained["step"] == 4
