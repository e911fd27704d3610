"""Imports on Beam's engines: the bytes of an import on one machine, whatever happens to workers."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from made_data import leftovers
from PIL import Image
from tsv import CLASSES, EVEN, OPTIONS, even, write, write_images

from core.errors import DataError
from input_pipeline import beam
from input_pipeline.beam import __main__ as command
from input_pipeline.beam.engine import Engine
from input_pipeline.importers import run
from input_pipeline.importers.parts import LAST
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore, extractors

ROOT = pathlib.Path(__file__).parents[3]
HERE = ["--runner=DirectRunner"]
PROCESSES = [*HERE, "--direct_num_workers=2", "--direct_running_mode=multi_processing"]

# A grid of mean colours; it stops for ever at a picture that HANG names, and says so.
ADAPTER = """
import os, pathlib, time
import numpy as np
from input_pipeline.regions.extract import Regions, grid_boxes

class Colours:
    name, feature_dim, num_classes, background_class = "colours", 3, 3, None
    global_feature, class_names, attribute_names = "stored", ("r", "g", "b"), ("light",)

    def __call__(self, picture):
        hang = os.environ.get("HANG")
        if hang and picture[0, 0, 0] == 7:
            pathlib.Path(hang).touch()
            time.sleep(600)
        boxes = grid_boxes(2, 2, *picture.shape[:2])
        means = np.stack([
            picture[round(y1) : round(y2), round(x1) : round(x2)].mean((0, 1))
            for x1, y1, x2, y2 in boxes.tolist()
        ])
        probs = (means + 1) / (means + 1).sum(1, keepdims=True)
        return Regions(boxes, means, probs, picture.mean((0, 1)), means[:, :1] / 255)
"""


def contents(folder):
    """{name: bytes} of all files under a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(pathlib.Path(folder).rglob("*"))
        if path.is_file()
    }


def convert(files, out, engine=None, layout="bottom_up_tsv", **arguments):
    settings = ImportSettings(**{"options": OPTIONS, **arguments})
    return run.convert(layout, [str(file) for file in files], out, settings, engine)


@pytest.fixture
def colours(tmp_path_factory, monkeypatch):
    """The folder of the module `colours_adapter`, importable here and in child processes."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "colours_adapter.py").write_text(ADAPTER)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
    extractors.load.cache_clear()
    yield folder
    extractors.load.cache_clear()
    sys.modules.pop("colours_adapter", None)


def pictures(folder, count=6):
    folder.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(8, 256, (20 + i, 30, 3), np.uint8)
        pixels[0, 0, 0] = 7 if i == 4 else 9
        Image.fromarray(pixels).save(folder / f"{i:04d}.png")
    return folder


PICTURES = dict(layout="pictures", options={"extractor": "colours_adapter:Colours"}, part_size=1)


class Twice:
    """An engine that does everything twice, as one that has not heard the end of it."""

    def each(self, work, items, place, label):
        Engine(HERE).each(work, [item for item in items for _ in range(2)], place, label)


@pytest.mark.parametrize("part_size", [900, 10**6])
def test_an_import_is_that_of_one_machine(tmp_path, part_size):
    parts = {"1.tsv": range(10, 20), "2.tsv": range(20, 30)}
    files = [write_images(tmp_path / name, images, CLASSES) for name, images in parts.items()]
    options = dict(part_size=part_size, detector="toy", top_k=3, max_regions=9)
    one = convert(files, tmp_path / "one", workers=2, **options)
    for name, engine in {"beam": Engine(HERE), "twice": Twice()}.items():
        done = convert(files, tmp_path / name, engine, **options)
        assert (done.images, done.spec) == (one.images, one.spec) == (20, one.spec)
        assert contents(tmp_path / name) == contents(tmp_path / "one")
    assert RegionStore.open(tmp_path / "beam").keys == [str(i) for i in range(10, 30)]
    assert not [name for name in leftovers(tmp_path) if "partial" in name or "tmp" in name]


@pytest.mark.slow  # starting the processes takes 15 s
def test_pictures_in_processes_are_those_of_one_machine(tmp_path, colours):
    folder = pictures(tmp_path / "in")
    convert([folder], tmp_path / "one", **PICTURES)
    convert([folder], tmp_path / "beam", Engine(PROCESSES), **PICTURES)
    assert contents(tmp_path / "beam") == contents(tmp_path / "one")
    assert len(list((tmp_path / "beam").glob("shard-*.bin"))) == 6


def test_a_killed_pipeline_is_resumed(tmp_path, colours, capsys):
    folder, out = pictures(tmp_path / "in"), tmp_path / "beam"
    convert([folder], tmp_path / "one", **PICTURES)
    process = subprocess.Popen(
        [sys.executable, "-m", "input_pipeline.beam", "regions", "pictures", str(folder), *HERE,
         f"--out={out}", "--part_size=1", "--extractor=colours_adapter:Colours"],
        cwd=ROOT,
        env={**os.environ, "HANG": str(tmp_path / "hangs")},
        stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not (tmp_path / "hangs").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not out.exists()
    partial = tmp_path / "beam.partial"
    finished = sorted(path.parent.name for path in partial.glob(f"part-*/{LAST}"))
    assert finished == [f"part-{i:05d}" for i in range(4)]
    assert list(partial.glob(".part-00004.tmp-*"))  # half-written, which counts for nothing
    convert([folder], out, Engine(HERE), **PICTURES)
    assert "4 of 6 parts are there already" in capsys.readouterr().out
    assert contents(out) == contents(tmp_path / "one")
    assert not partial.exists()


def test_bad_records(tmp_path):
    path = write(tmp_path / "a.tsv", [even(i) for i in range(3)] + [b"9\tx"] + [even(4)])
    expected = rf"(?s)wrong number of columns.*a\.tsv, byte {3 * EVEN}"
    with pytest.raises(DataError, match=expected) as one:
        convert([path], tmp_path / "s", part_size=EVEN)
    with pytest.raises(DataError, match=expected) as other:
        convert([path], tmp_path / "s", Engine(HERE), part_size=EVEN)
    assert str(one.value) == str(other.value)
    assert "parts are finished" in other.value.__notes__[0]
    assert not (tmp_path / "s").exists()
    convert([path], tmp_path / "s", Engine(HERE), part_size=EVEN, on_bad="skip")
    convert([path], tmp_path / "one", part_size=EVEN, on_bad="skip")
    assert contents(tmp_path / "s") == contents(tmp_path / "one")
    [row] = (tmp_path / "s" / "skipped.jsonl").read_text().splitlines()
    assert json.loads(row)["where"] == f"{path}, byte {3 * EVEN}"


def test_an_image_that_occurs_twice(tmp_path):
    path = write(tmp_path / "a.tsv", [even(i) for i in (0, 1, 2, 1)])
    with pytest.raises(DataError, match=rf"(?s)occurs twice.*byte {EVEN} and .*byte {3 * EVEN},"):
        convert([path], tmp_path / "s", Engine(HERE), part_size=EVEN)
    convert([path], tmp_path / "s", Twice(), part_size=EVEN, on_bad="skip")
    convert([path], tmp_path / "one", part_size=EVEN, on_bad="skip")
    assert contents(tmp_path / "s") == contents(tmp_path / "one")


def in_bucket(bucket, name):
    """{name: bytes} of the objects in a folder."""
    return {
        key.removeprefix(f"{name}/"): bucket.objects[key][0] for key in bucket.names(f"{name}/")
    }


def test_inputs_and_store_in_a_bucket(tmp_path, bucket):
    files = [tmp_path / f"in{n}.tsv" for n in range(2)]
    for n, path in enumerate(files):
        lines = [even(i) for i in range(4 * n, 4 * n + 4)]
        write(path, lines + [b"9\tx"] * n)
        bucket.server.put(bucket.name, f"in/{path.name}", path.read_bytes())
    urls = [f"{bucket.url}/in/{path.name}" for path in files]
    options = dict(part_size=2 * EVEN, on_bad="skip")
    convert(files, tmp_path / "one", **options)
    bucket.server.forget()
    done = convert(urls, f"{bucket.url}/out", Twice(), **options)
    assert (done.images, done.skipped) == (8, 1)
    made, expected = in_bucket(bucket, "out"), contents(tmp_path / "one")
    where = json.loads(made["skipped.jsonl"])["where"]
    assert where == f"{urls[1]}, byte {4 * EVEN}"
    named = expected.pop("skipped.jsonl").decode()
    for path, url in zip(files, urls, strict=True):
        named = named.replace(str(path), url)
    assert made.pop("skipped.jsonl").decode() == named
    assert made == expected
    # Shards go from a worker to the bucket once, and are copied within it.
    assert not [name for what, name in bucket.server.asked if what == "READ" and ".bin" in name]
    assert bucket.names() == [f"in/{path.name}" for path in files] + bucket.names("out/")
    assert not list((tmp_path / "cache" / "inputs").iterdir())


def test_pictures_in_a_bucket_and_a_resumed_import(tmp_path, bucket, colours):
    for n in range(2):
        folder = pictures(tmp_path / f"in{n}", 3)
        for path in list(folder.iterdir()):
            path.rename(path.with_name(f"{n}-{path.name}"))
        (folder / f"{n}-0001.png").write_bytes(
            b"none" if n else (folder / "0-0001.png").read_bytes()
        )
        bucket.copy(folder, f"in/{n}")
    urls, out = [f"{bucket.url}/in/{n}" for n in range(2)], f"{bucket.url}/out"
    with pytest.raises(DataError, match=rf"(?s){urls[1]}/1-0001\.png") as failed:
        convert(urls, out, Engine(HERE), **PICTURES)
    assert f"4 of 6 parts are finished in {out}.partial" in failed.value.__notes__[0]
    done = bucket.objects["out.partial/part-00002/store/shard-00000.bin"]
    assert bucket.names("out/") == []
    convert(urls, out, Engine(HERE), **PICTURES, on_bad="skip")
    convert([tmp_path / "in0", tmp_path / "in1"], tmp_path / "one", **PICTURES, on_bad="skip")
    made, expected = in_bucket(bucket, "out"), contents(tmp_path / "one")
    assert made["shard-00002.bin"] == done[0]
    named = made.pop("skipped.jsonl").decode().replace(bucket.url + "/in/", str(tmp_path / "in"))
    assert named == expected.pop("skipped.jsonl").decode()
    assert made == expected
    assert bucket.names("out.partial") == bucket.names("out.inputs") == []


def test_without_beam(tmp_path, capsys, monkeypatch):
    path = write(tmp_path / "a.tsv", [even(0)])
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "input_pipeline.beam.engine")
    monkeypatch.delattr(beam, "engine")
    assert command.main(["regions", "bottom_up_tsv", path, f"--out={tmp_path / 's'}"]) == 1
    assert 'pip install -c requirements.lock -e ".[beam]"' in capsys.readouterr().err


def test_options(tmp_path, capsys):
    path = write(tmp_path / "a.tsv", [even(0)])
    start = ["regions", "bottom_up_tsv", path, f"--out={tmp_path / 's'}"]
    for more, told in {
        "--runnr=DirectRunner": "unknown options",
        "--workers=2": "--direct_num_workers",
        "--part_siz=3": "unknown options",
    }.items():
        assert command.main([*start, more]) == 1
        assert told in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
    assert command.main(["pictures"]) == 2
    assert command.main(["regions", "--help"]) == 0
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    assert command.main([*start, *options, *HERE]) == 0
    assert "wrote" in capsys.readouterr().out
