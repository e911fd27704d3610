"""main.py on official question files: trains both models, shares them, starts from BERT."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from made_data import image, write_images

from input_pipeline.regions import FeatureSpec

ROOT = pathlib.Path(__file__).parents[2]
WORDS = ("red", "blue", "green", "gray")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with VQA files and a store whose features give the answers away."""
    folder = tmp_path_factory.mktemp("vqa")
    spec = FeatureSpec("toy", 8, dtype="float32")
    colours = np.random.default_rng(0).integers(0, 4, 60)
    images = []
    for i, colour in enumerate(colours):
        arguments = image(i, 2, spec)
        arguments["features"] = np.eye(8, dtype=np.float32)[[colour, 4 + i % 4]] * 3
        images.append((str(i), arguments))
    write_images(folder / "store", spec, *images)
    for split, first, last in (("train2014", 0, 48), ("val2014", 48, 60)):
        questions, annotations = [], []
        for i in range(first, last):
            number = {"question_id": i * 1000, "image_id": i}
            answer = WORDS[colours[i]]
            questions.append({**number, "question": "What colour is it?"})
            annotations.append({
                **number, "question_type": "what color", "answer_type": "other",
                "multiple_choice_answer": answer,
                "answers": [{"answer": answer, "answer_id": k} for k in range(10)],
            })  # fmt: skip
        name = f"v2_OpenEnded_mscoco_{split}_questions.json"
        (folder / name).write_text(json.dumps({"questions": questions}))
        name = f"v2_mscoco_{split}_annotations.json"
        (folder / name).write_text(json.dumps({"annotations": annotations}))
    return folder


def run(files, workdir, *more, config="configs/vqa.py:data=vqa"):
    command = [
        sys.executable, "main.py", f"--config={config}", f"--workdir={workdir}",
        f"--config.data.dir={files / 'cache'}", f"--config.data.manual_dir={files}",
        f"--config.data.regions={files / 'store'}", "--config.data.train_split=train2014",
        "--config.data.eval_split=val2014", "--config.data.answer_count=1",
        "--config.data.vocab_size=140", "--config.streams.examples.max_text=12",
        "--config.streams.examples.max_regions=4", "--config.streams.examples.max_length=16",
        "--config.streams.examples.batch_size=16", "--config.evals.validation.batch_size=8",
        "--config.model.hidden=32", "--config.model.layers=2", "--config.model.intermediate=64",
        "--config.optimizer.warmup_steps=5", "--config.log_every=20", *more,
    ]  # fmt: skip
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(files / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    return done, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vlbert", "vilbert", "single_stream"])
def test_learns_what_the_regions_show(files, tmp_path, model):
    more = {
        "vilbert": ["--config.model.connect.text_at=(0,1)"],
        # With boxes spread wide it knows 48 images by them, and learns no colour.
        "single_stream": ["--config.model.geometry.scale=(1.0,1.0)"],
    }.get(model, [])
    done, out = run(
        files, tmp_path / "run", *more, "--config.total_steps=120", "--config.eval_every=60",
        config=f"configs/vqa.py:model={model},data=vqa",
    )  # fmt: skip
    assert done.returncode == 0, out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["vqa_accuracy"] > 0.9  # one of four by chance
    assert summary["before"]["vqa_accuracy"] < 0.7

    # The folder to share evaluates as the run does, and other answers stop an evaluation.
    share = [sys.executable, "-m", "checkpoints.convert", str(tmp_path / "run"), "--out"]
    made = subprocess.run([*share, str(tmp_path / "shared")], cwd=ROOT, capture_output=True)
    assert made.returncode == 0, made.stderr
    done, out = run(
        files, tmp_path / "again", *more, "--mode=eval", f"--config.init={tmp_path / 'shared'}",
        config=f"configs/vqa.py:model={model},data=vqa",
    )  # fmt: skip
    assert done.returncode == 0, out
    again = json.loads((tmp_path / "again" / "evaluation.json").read_text())
    assert again["evals/validation/vqa_accuracy"] == pytest.approx(summary["best"]["value"])
    if model == "vlbert":
        other = tmp_path / "answers.json"
        other.write_text(json.dumps([*WORDS, "pink"]))
        done, out = run(
            files, tmp_path / "other", "--mode=eval", f"--config.init={tmp_path / 'shared'}",
            f"--config.data.answers={other}",
        )  # fmt: skip
        assert done.returncode == 1
        assert "cannot be evaluated as it is" in out
        assert "Traceback" not in out
