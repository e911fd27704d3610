"""`doctor inspect`: its command line, and stores, samples and raw files that it opens."""

import json
import pickle

import h5py
import numpy as np
import pytest
from importers.made_lmdbs import image as lmdb_image
from importers.made_lmdbs import write as write_lmdb
from made_data import REAL
from made_regions import IMAGES, C, F, look, made, names, normalised, store_of

from input_pipeline.doctor import sheet as sheets
from input_pipeline.doctor.__main__ import main
from input_pipeline.doctor.examine import examine
from input_pipeline.doctor.findings import percent
from input_pipeline.doctor.sources import fitting, open_source
from input_pipeline.regions import FeatureSpec


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_store(tmp_path, dtype):
    """A store says the same as its file; boxes of 0 to 1 pass its writer, but not the doctor."""
    arrays = made()
    source = open_source([store_of(tmp_path, arrays, dtype=dtype, top_k=3)])
    result = examine(source)
    assert names(result) == set()
    assert result.statistics["features"]["dtype"] == [dtype]
    assert result.statistics["classes"]["background"] == 0
    assert result.statistics["features"]["whole_image"] == {
        "stored": IMAGES,
        "equal_to_mean": IMAGES,
    }
    normalised(arrays)
    (tmp_path / "b").mkdir()
    result = examine(open_source([store_of(tmp_path / "b", arrays, dtype=dtype)]))
    assert names(result) == {"boxes_normalised"}


def test_sample_is_spread(tmp_path):
    result = look(tmp_path, made(), images=5)
    assert (result.statistics["images"], result.statistics["all"]) == (5, False)
    source = open_source([store_of(tmp_path, made())])
    seen = [sample.image_id for sample in source.samples(3)]
    assert seen == ["val/000.jpg", "val/009.jpg", "val/019.jpg"]
    seen = [sample.image_id for sample in source.samples(2, {"val/007.jpg"}.__contains__)]
    assert seen == ["val/000.jpg", "val/007.jpg", "val/019.jpg"]


def test_command(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **made())
    out = tmp_path / "out.json"
    assert main(["inspect", str(tmp_path / "a.npz"), "--images", "all", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "npz fits, and no other" in text
    assert f"looked at   {IMAGES} images of {IMAGES} images, all of them" in text
    assert text.rstrip().endswith("sound")
    value = json.loads(out.read_text())
    assert value["verdict"] == "sound"
    assert value["boxes"]["convention"] == "xyxy_pixels"
    options = ["--layout", "npz", "--background_class", "2", "--images", "9"]
    assert main(["inspect", str(tmp_path / "a.npz"), *options]) == 1
    assert "looks like column 0 of 9" in capsys.readouterr().out


def test_no_layout_fits(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("hello\n")
    assert fitting([str(tmp_path / "a.txt")])[0] == {}
    assert main(["inspect", str(tmp_path / "a.txt")]) == 1
    err = capsys.readouterr().err
    assert "bottom_up_tsv: not a bottom-up-attention TSV" in err
    assert "--layout NAME" in err
    assert main(["inspect", str(tmp_path / "b.txt")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "a.txt"), "--layout", "nope"]) == 1
    assert "unknown layout" in capsys.readouterr().err


def test_bad_record_among_sound_ones(tmp_path):
    import base64

    rng, lines = np.random.default_rng(0), []
    for i in range(4):
        values = (np.sort(rng.random((3, 2, 2)) * 90, axis=1).reshape(3, 4), rng.random((3, F)))
        cells = [base64.b64encode(v.astype("<f4").tobytes()).decode() for v in values]
        lines.append("\t".join([f"{i}", "90", "90", "3", *cells]))
    lines[2] = lines[2][:-30]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
    options = {"feature_dim": F, "num_classes": 0, "float_dtype": "float32"}
    result = examine(open_source([str(tmp_path / "a.tsv")], "bottom_up_tsv", options))
    assert result.statistics["images"] == 3
    assert "unreadable" in names(result)
    finding = next(f for f in result.findings if f.name == "unreadable")
    assert "image '2'" in finding.text


def test_raw_file_against_checkpoint(tmp_path, capsys):
    from test_doctor import checkpoint

    np.savez(tmp_path / "a.npz", **made())
    command = ["inspect", str(tmp_path / "a.npz"), "--layout", "npz", "--checkpoint"]
    assert main([*command, checkpoint(tmp_path / "fits", FeatureSpec("x", F, C, 0))]) == 0
    assert main([*command, checkpoint(tmp_path / "other", FeatureSpec("x", F, C + 1, C))]) == 1
    out = capsys.readouterr().out
    assert f"num_classes={C}, background_class=0 ({tmp_path / 'a.npz'})" in out
    assert f"num_classes={C + 1}, background_class={C} ({tmp_path / 'other'}" in out


def test_layouts_that_are_tried_say_nothing(tmp_path, capfd):
    """The LMDB of one layout has no list of keys under the other's name."""
    records = {b"100": pickle.dumps(lmdb_image(0), 2), b"keys": pickle.dumps([b"100"])}
    path = write_lmdb(tmp_path / "a.lmdb", records)
    assert main(["inspect", path]) in (0, 1)
    captured = capfd.readouterr()
    assert "vilbert_lmdb fits, and no other" in captured.out
    assert "did not finish" not in captured.out + captured.err
    del records[b"keys"]
    main(["inspect", write_lmdb(tmp_path / "b.lmdb", records), "--layout", "vilbert_lmdb"])
    assert "did not finish" in capfd.readouterr().err


def test_a_file_of_regions_and_grids_is_one_of_regions(tmp_path, capsys):
    """DLCT's HDF5 has both; the layout that makes boxes itself is meant where it is named."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name in ("1", "2"):
            file[f"{name}_features"] = np.random.default_rng(0).random((5, F), np.float32)
            file[f"{name}_boxes"] = np.asarray([[1, 2, 50, 30]] * 5, np.float32)
            file[f"{name}_size"] = [[40, 60]]
            file[f"{name}_grids"] = np.random.default_rng(int(name)).random((49, F), np.float32)
    main(["inspect", str(tmp_path / "a.hdf5")])
    assert "hdf5 fits, and no other" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "a.hdf5"), "--grid", "7x7"]) == 0
    out = capsys.readouterr().out
    assert "grid fits, and no other" in out
    assert "always 49 per image" in out


def test_percent_never_hides_anything():
    assert [percent(*pair) for pair in ((0, 9), (9, 9), (1, 10**6), (10**6 - 1, 10**6))] == [
        *("0 %", "100 %", "<0.01 %", ">99.99 %")
    ]
    assert percent(1, 8) == "12.5 %"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}")
def test_real_features():
    source = open_source([str(REAL / "bottom_up" / "train2014_obj36.tsv")])
    found = sheets.Pictures(str(REAL / "bottom_up" / "images"))
    result = examine(source, None, found)
    assert (source.layout, result.verdict, result.statistics["images"]) == (
        "bottom_up_tsv",
        "sound",
        10,
    )
    assert "bottom-up attention" in result.statistics["looks_like"][0]
    files = [str(REAL / "regions" / f"coco_{name}.npz") for name in ("mini", "extra")]
    result = examine(open_source(files), 60)
    assert result.verdict == "sound"
    assert result.statistics["classes"]["background"] == 0
    assert "COCO" in result.statistics["looks_like"][0]
