"""What a run writes to a bucket and reads from it, besides its data."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from checkpoints import checkpoint, convert, sources
from core import remote
from core.errors import DataError
from evaluation import prediction_file
from evaluation.report import report
from evaluation.submissions import formats
from runtime import compile_cache
from tests.checkpoints.test_convert import vlbert  # noqa: F401 (a fixture)
from tests.runtime.test_compile_cache import compiled, hits  # noqa: F401 (a fixture)
from tests.training import fakes, run_fake
from training.run import metrics, run_checkpoints
from training.state import TrainState
from vl_models import loading


def same_params(a, b):
    a, b = (loading.flatten(checkpoint.load_params(place)[0]) for place in (a, b))
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(b[name], array, err_msg=name)


@pytest.mark.slow
def test_a_run_in_a_bucket_goes_on_past_a_damaged_checkpoint(tmp_path, bucket, capsys):
    url = f"{bucket.url}/runs/a"
    run_fake.run(tmp_path / "here", fakes.config(total_steps=12))
    run_fake.run(url, fakes.config(total_steps=12))
    assert run_fake.losses(remote.path(url)) == run_fake.losses(tmp_path / "here")
    same_params(tmp_path / "here", url)
    # Not at each of the nine lines, but before each of the three checkpoints, and what came later.
    assert bucket.asked("PUT", f"runs/a/{metrics.FILE}") <= 4
    for name in ("summary.json", "config.json", "loss.png"):
        assert f"runs/a/{name}" in bucket.objects

    folder = f"runs/a/{checkpoint.FOLDER}"
    for name in bucket.names(f"{folder}/12/params/"):
        bucket.server.put(bucket.name, name, b"damaged")
    capsys.readouterr()
    run_fake.run(url, fakes.config(total_steps=12))
    out = capsys.readouterr().out
    assert f"cannot read the checkpoint {bucket.url}/{folder}/12" in out
    assert "resumed at step 8" in out
    assert bucket.names(f"{folder}/unusable-12/params/")
    assert run_fake.losses(remote.path(url)) == run_fake.losses(tmp_path / "here")
    same_params(tmp_path / "here", url)


def test_a_checkpoint_says_what_was_so_when_it_was_saved(bucket, monkeypatch):
    monkeypatch.setattr(bucket.server, "delay", 0.02)  # its files come long after `save` is back
    store = run_checkpoints.Checkpoints(f"{bucket.url}/run", keep=1)
    arrays = {"trunk": {"x": jax.numpy.ones(3)}}
    meta = dict(step=1, best=None, window={"loss": [1.0, 1.0]})
    store.save(TrainState(step=1, params=arrays, opt_state=arrays), meta)
    meta["window"]["loss"][0] += 1  # the next step
    store.wait()
    store.close()
    assert checkpoint.load_params(f"{bucket.url}/run")[1]["window"] == {"loss": [1.0, 1.0]}


def test_lines_are_uploaded_now_and_then_and_before_they_are_needed(bucket, monkeypatch):
    name = f"run/{metrics.FILE}"
    writer = metrics.Writer(f"{bucket.url}/run", after_step=-1)
    for step in range(20):
        writer.write(step, {"x": step})
    assert name not in bucket.objects
    writer.flush()
    assert len(metrics.read(f"{bucket.url}/{name}")) == 20
    writer.write(20, {"x": 20})
    # Killed here: what a run that resumes at step 14 does not log again is there.
    resumed = metrics.Writer(f"{bucket.url}/run", after_step=14)
    monkeypatch.setattr(metrics, "UPLOAD_SECONDS", 0)
    resumed.write(15, {"x": 15.5})
    resumed._upload._running.result()  # in the background, since it is time
    assert [line["step"] for line in metrics.read(f"{bucket.url}/{name}")] == list(range(16))
    resumed.write(16, {"x": 16})
    resumed.close()
    assert [line["x"] for line in metrics.read(f"{bucket.url}/{name}")] == [*range(15), 15.5, 16]


def test_programs_are_kept_in_a_bucket(bucket, hits):  # noqa: F811
    compile_cache.enable(f"{bucket.url}/programs")
    first = compiled()
    assert bucket.names("programs/")
    assert not hits
    assert compiled() == first
    assert hits


def test_parameters_come_from_a_bucket_and_go_there(vlbert, tmp_path, bucket, capsys):  # noqa: F811
    golden, state, file = vlbert
    bucket.copy(file.parent, "published")
    heads = f"--heads={golden.meta['num_attention_heads']}"
    place, shared = f"{bucket.url}/published/{file.name}", f"{bucket.url}/shared"
    assert convert.main([place, f"--out={shared}", heads]) == 0
    source = sources.open_source(shared)
    assert (source.kind, source.place) == ("folder", shared)
    assert source.pieces[:2] == ["piece0", "piece1"]  # from vocab.txt beside the file
    expected = sources.open_source(str(file)).arrays
    assert source.arrays.keys() == expected.keys()
    assert convert.main([shared, f"--torch={bucket.url}/back.safetensors"]) == 0
    back = load_file(remote.local(f"{bucket.url}/back.safetensors"))
    assert back.keys() == state.keys()
    assert convert.main([shared, f"--torch={bucket.url}/back.safetensors"]) == 1
    assert "exists already" in capsys.readouterr().err
    for nothing in (f"{bucket.url}/nothing", f"{bucket.url}/nothing.safetensors"):
        with pytest.raises(sources.SourceError, match="no such file or folder"):
            sources.open_source(nothing)
    with pytest.raises(DataError, match=r"(?s)bucket cannot be used.*gs://not-there"):
        sources.open_source("gs://not-there/run")


def test_predictions_submissions_and_reports_in_a_bucket(bucket):
    path = remote.path(f"{bucket.url}/run/predictions/test.jsonl")
    with prediction_file.text_file(path) as file:
        file.write(json.dumps(dict(id="262148001", answer="café", top=[])) + "\n")
    (made,) = formats.write(
        "vqa", path, remote.path(f"{bucket.url}/run/submissions"), records=None, kind=""
    )
    assert made == remote.path(f"{bucket.url}/run/submissions/vqa-test.json")
    assert json.loads(remote.local(made).read_text()) == [
        {"question_id": 262148001, "answer": "café"}
    ]
    report.write(f"{bucket.url}/run/report/index.html", "café", {"accuracy": 0.5}, [])
    assert "café" in bucket.objects["run/report/index.html"][0].decode()
    assert jax.process_index() == 0


def test_a_missing_package_is_told(monkeypatch):
    find = remote.importlib.util.find_spec
    monkeypatch.setattr(
        remote.importlib.util, "find_spec", lambda name: None if name == "gcsfs" else find(name)
    )
    with pytest.raises(DataError, match=r"(?s)need the package gcsfs.*\[gcs\]"):
        remote.require("gs://bucket/run", "--workdir")
