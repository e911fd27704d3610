"""The driver of imports: parts, folders, ids, shards, memory, command line."""

import json
import os
import pathlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from made_data import F, image, leftovers
from tsv import CLASSES, EVEN, OPTIONS, PLAIN, blob, even, line, write, write_images

from core.errors import DataError
from core.ids import number_of
from input_pipeline.importers import __main__ as command
from input_pipeline.importers import known, load, run
from input_pipeline.importers.settings import ImportSettings
from input_pipeline.regions import RegionStore, RegionWriter

ROOT = pathlib.Path(__file__).parents[3]


def convert(path, out, **arguments):
    paths = [path] if isinstance(path, str) else path
    return run.convert(
        "bottom_up_tsv", paths, out, ImportSettings(**{"options": OPTIONS, **arguments})
    )


def contents(folder):
    """{name: bytes} of all files under a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(pathlib.Path(folder).rglob("*"))
        if path.is_file()
    }


def parts_of(partial):
    return sorted(path.name for path in pathlib.Path(partial).glob("part-*"))


def test_a_store_in_parts_is_the_one_a_single_writer_writes(tmp_path):
    path = write_images(tmp_path / "a.tsv", range(20), CLASSES)
    for name, arguments in {
        "one": {},
        "parts": dict(part_size=900),
        "processes": dict(part_size=900, workers=2),
    }.items():
        done = convert(path, tmp_path / name, detector="toy", top_k=3, max_regions=9, **arguments)
        assert (done.images, done.skipped) == (20, 0)
    stores = {name: contents(tmp_path / name) for name in ("one", "parts", "processes")}
    assert stores["parts"] == stores["processes"]
    assert len(stores["parts"]) > 8 > len(stores["one"])
    with RegionWriter(tmp_path / "direct", done.spec) as writer:
        for i in range(20):
            made = image(i)
            made["class_probs"] = made["class_probs"].astype(np.float32)
            writer.add(str(i), **made)
    assert stores["one"] == contents(tmp_path / "direct")
    opened = [RegionStore.open(tmp_path / name) for name in ("one", "parts")]
    assert opened[0].fingerprint == opened[1].fingerprint
    assert opened[0].keys == opened[1].keys == [str(i) for i in range(20)]
    for row in range(20):
        assert (opened[0].read(row)["features"] == opened[1].read(row)["features"]).all()
    assert leftovers(tmp_path)[0] == "a.tsv"
    assert not list(tmp_path.glob("*.partial"))


def test_folders_in_the_way_are_left_alone(tmp_path):
    path = write_images(tmp_path / "a.tsv", range(2))
    (tmp_path / "s").mkdir()
    with pytest.raises(DataError, match="output folder exists already"):
        convert(path, tmp_path / "s")
    (tmp_path / "t.partial").mkdir()
    (tmp_path / "t.partial" / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match=r"(?s)unfinished import is something else.*mine\.txt"):
        convert(path, tmp_path / "t")
    assert (tmp_path / "t.partial" / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("part_size", [EVEN, 10**6], ids=["across parts", "in one part"])
def test_an_image_that_occurs_twice(tmp_path, part_size):
    path = write(tmp_path / "a.tsv", [even(i) for i in (0, 1, 2, 1)])
    first, second = EVEN, 3 * EVEN
    with pytest.raises(
        DataError, match=rf"(?s)occurs twice.*byte {first} and .*byte {second}, image '0001'"
    ):
        convert(path, tmp_path / "s", part_size=part_size)
    assert not (tmp_path / "s").exists()
    done = convert(path, tmp_path / "s", part_size=part_size, on_bad="skip")
    assert (done.images, done.skipped) == (3, 1)
    row = json.loads((tmp_path / "s" / "skipped.jsonl").read_text())
    assert row["where"] == f"{path}, byte {second}"
    assert RegionStore.open(tmp_path / "s").keys == ["0000", "0001", "0002"]


def test_ids(tmp_path):
    assert number_of("COCO_val2014_000000000042.jpg") == "42"
    assert [number_of(name) for name in ("000", "7.jp2", "a/12/b_3", "x.1", "none.jpg")] == [
        *("0", "7", "3", "1"),
        "",
    ]
    names = [b"COCO_val2014_000000000042.jpg", b"000000000043", b"44"]
    path = write(tmp_path / "a.tsv", [line(PLAIN, 0, image_id=name) for name in names])
    convert(path, tmp_path / "s")
    assert RegionStore.open(tmp_path / "s").keys == [name.decode() for name in names]
    convert(path, tmp_path / "n", ids="number")
    assert RegionStore.open(tmp_path / "n").keys == ["42", "43", "44"]
    path = write(tmp_path / "b.tsv", [line(PLAIN, 0, image_id=b"abc")])
    with pytest.raises(DataError, match=r"(?s)no number.*image 'abc'.*--ids as_is"):
        convert(path, tmp_path / "t", ids="number")
    path = write(tmp_path / "c.tsv", [line(PLAIN, 0, image_id=n) for n in (b"a_07", b"b_7")])
    with pytest.raises(DataError, match="occurs twice"):
        convert(path, tmp_path / "t", ids="number")


def test_numbers_as_ids_become_text(tmp_path, monkeypatch):
    module = load("bottom_up_tsv")
    parse = module.Layout.parse

    def with_number(self, where, raw):
        item = parse(self, where, raw)
        return module.Item(**{**vars(item), "image_id": np.int64(item.image_id)})

    monkeypatch.setattr(module.Layout, "parse", with_number)
    convert(write_images(tmp_path / "a.tsv", range(3)), tmp_path / "s")
    assert RegionStore.open(tmp_path / "s").keys == ["0", "1", "2"]


def test_memory_does_not_grow_with_the_file(tmp_path):
    big = blob(np.ones((1, 10_000)))
    few = write_images(tmp_path / "few.tsv", range(10), n=1, features=big)
    many = write_images(tmp_path / "many.tsv", range(100), n=1, features=big)
    peaks = []
    for number, path in enumerate((few, many)):
        tracemalloc.start()
        convert(path, tmp_path / str(number), part_size=200_000, options={"feature_dim": 10_000})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert os.path.getsize(many) > 5e6
    assert peaks[1] < peaks[0] + 3e5


def test_many_files_become_few_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "MAX_PARTS", 4)
    paths = [write_images(tmp_path / f"{i}.tsv", [i]) for i in range(10)]
    assert convert(paths, tmp_path / "s").images == 10
    assert RegionStore.open(tmp_path / "s").keys == [str(i) for i in range(10)]
    assert len(list((tmp_path / "s").glob("shard-*"))) == 4


def test_wrong_arguments(tmp_path):
    path = write_images(tmp_path / "a.tsv", range(2))
    for name in ("on_bad", "ids", "global_feature"):
        with pytest.raises(DataError, match=rf"(?s)unknown --{name}.*one of.*'maybe'"):
            convert(path, tmp_path / "s", **{name: "maybe"})
    for arguments in (dict(workers=0), dict(part_size=-1)):
        with pytest.raises(DataError, match="too small"):
            convert(path, tmp_path / "s", **arguments)
    with pytest.raises(DataError, match=r"(?s)unknown option.*'feature_dim'.*'colour'"):
        convert(path, tmp_path / "s", options={"colour": 1})
    with pytest.raises(DataError, match=r"(?s)global_feature .*disagree.*a\.tsv"):
        convert(path, tmp_path / "s", global_feature="stored")
    with pytest.raises(DataError, match="unknown dtype"):
        convert(path, tmp_path / "s", dtype="int4")
    with pytest.raises(DataError, match=r"(?s)unknown layout.*'bottom_up_tsv'.*'tvs'"):
        run.convert("tvs", [path], tmp_path / "s")
    assert leftovers(tmp_path) == ["a.tsv"]


def test_command_line(tmp_path, capsys):
    assert command.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, summary in known().items():
        assert summary == load(name).__doc__.partition("\n")[0]
        assert f"{name} " in text
        assert summary in text
    assert command.main(["tvs", "x", "--out", "y"]) == 1
    assert "'bottom_up_tsv'" in capsys.readouterr().err
    assert command.main(["--out", "y"]) == 2
    assert "the layout comes first" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["bottom_up_tsv", "--help"])
    assert "--float_dtype" in capsys.readouterr().out
    path = write(tmp_path / "a.tsv", [line(PLAIN, 0), line(PLAIN, 1, num_boxes=b"x")])
    (tmp_path / "ids.txt").write_text("0\n8\n")
    options = ["--feature_dim", str(F), "--workers", "1", "--needs", str(tmp_path / "ids.txt")]
    out = str(tmp_path / "s")
    assert command.main(["bottom_up_tsv", path, "--out", out, *options]) == 1
    assert "error: the column 'num_boxes'" in capsys.readouterr().err
    assert command.main(["bottom_up_tsv", path, "--out", out, *options, "--on_bad", "skip"]) == 0
    text = capsys.readouterr().out
    assert f"wrote {out}: 1 images" in text
    assert f"left out 1 bad images: see {out}/skipped.jsonl" in text
    assert "no class distributions" in text
    assert "needs 2 images; 1 (50.0 %) are in the store, 1 are missing" in text
    assert "missing: '8'" in text


def test_workers_load_no_tensorflow_or_jax():
    code = (
        "import sys; import input_pipeline.importers.__main__ as m\n"
        "from input_pipeline.importers import load; load('bottom_up_tsv'); load('npz')\n"
        "print([n for n in ('jax', 'tensorflow') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
