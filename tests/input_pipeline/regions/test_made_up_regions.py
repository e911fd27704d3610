"""Made-up regions: the real ones are kept, the others have the records' boxes, and all say so."""

import json

import numpy as np
import pytest
from made_data import REAL, SPEC, image, write_images
from official_data import write_coco

from input_pipeline.regions import RegionStore
from scripts import made_up_regions, real_records

BOXES = [[10.0, 20.0, 100.0, 50.0], [300.0, 200.0, 500.0, 400.0]]  # x, y, width, height


@pytest.fixture
def files(tmp_path):
    """Captions of images 1 to 4, and one expression on image 900 with two boxes."""
    write_coco(tmp_path / "coco_captions", train2014=range(1, 5))
    folder = tmp_path / "refcoco" / "refcoco"
    folder.mkdir(parents=True)
    row = dict(
        sent="left dog",
        gt_box=BOXES[0],
        pred_boxes=BOXES,
        pred_boxes_img_id=[f"COCO_train2014_000000000900_{i}.jpg" for i in range(2)],
    )
    (folder / "train.json").write_text(json.dumps([row]))
    write_images(tmp_path / "real", SPEC, *((str(i), image(i)) for i in (2, 3, 77)))
    return tmp_path


CAPTIONS = "coco=coco_captions:train2014"
EXPRESSIONS = "coco=refcoco,variant=refcoco,candidates=listed:train"


def make(files, out, *more, data=(CAPTIONS, EXPRESSIONS)):
    return made_up_regions.main([*data, f"--manual_dir={files}", f"--out={files / out}", *more])


def test_real_regions_are_kept_and_others_made_up(files, capsys):
    assert make(files, "stores", f"--real=coco={files / 'real'}", "--regions=5") == 0
    assert "5 images, 2 with real regions, 3 with made-up ones" in capsys.readouterr().out
    store = RegionStore.open(str(files / "stores" / "coco"))
    real = RegionStore.open(str(files / "real"))
    assert sorted(store.keys) == ["1", "2", "3", "4", "900"]
    for key in ("2", "3"):
        mine, theirs = (
            {name: x.copy() for name, x in one.read(one.rows_of([key])[0]).items()}
            for one in (store, real)
        )
        assert mine.keys() == theirs.keys()
        for name, array in theirs.items():
            np.testing.assert_array_equal(mine[name], array)
        assert store.heights[store.rows_of([key])[0]] == real.heights[real.rows_of([key])[0]]
    assert store.counts[store.rows_of(["1"])[0]] == 5
    assert store.spec.detector == "toy, made up where there are none"
    assert store.spec.num_classes == SPEC.num_classes


def test_boxes_that_records_speak_of_come_first(files):
    make(files, "stores", f"--real=coco={files / 'real'}", "--regions=4")
    store = RegionStore.open(str(files / "stores" / "coco"))
    (row,) = store.rows_of(["900"])
    expected = [[10, 20, 110, 70], [300, 200, 800, 600]]
    assert store.read(row)["boxes"][:2].tolist() == expected
    assert store.counts[row] == 4
    assert (store.heights[row], store.widths[row]) == (600, 800)  # as large as the boxes


def test_the_same_each_time_and_one_spec_for_all_stores(files):
    data = (CAPTIONS, EXPRESSIONS.replace("coco=", "other=", 1))
    for out in ("a", "b"):
        assert make(files, out, "--feature_dim=16", data=data) == 0
    for name in ("coco", "other"):
        one, two = (RegionStore.open(str(files / out / name)) for out in ("a", "b"))
        assert one.fingerprint == two.fingerprint
        assert one.spec == RegionStore.open(str(files / "a" / "coco")).spec
        assert one.spec.detector == "made up where there are none"
        assert one.spec.feature_dim == 16


def test_what_is_wrong_is_told(files, capsys):
    other = SPEC.__class__("other", 6)
    write_images(files / "real2", other, ("5", image(5, spec=other)))
    real = f"--real=coco={files / 'real'}"
    for data, more, message in (
        (("coco_captions:train2014",), (), "no name of a store"),
        (("coco=coco_captions",), (), "no split of a data set"),
        ((CAPTIONS,), (f"--real=vg={files / 'real'}",), "a store that is not made"),
        (
            (CAPTIONS, EXPRESSIONS.replace("coco=", "b=", 1)),
            (real, f"--real=b={files / 'real2'}"),
            "of different specs",
        ),
    ):
        assert make(files, "stores", *more, data=data) == 1
        assert message in capsys.readouterr().err
    assert not (files / "stores").exists()


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "vqa2_subset").is_dir(), reason=f"no real records in {REAL}")
def test_real_records_are_laid_out_as_official_files(tmp_path, capsys):
    assert real_records.main([str(REAL), f"--out={tmp_path / 'real'}"]) == 0
    told = capsys.readouterr().out
    assert "198 with real regions" in told
    flags = (tmp_path / "real" / "flags.txt").read_text().split()
    assert all(flag.startswith(("--config.streams.", "--config.evals.")) for flag in flags)
    spec = {
        str(RegionStore.open(str(folder)).spec) for folder in (tmp_path / "real/stores").iterdir()
    }
    assert len(spec) == 1
    from input_pipeline.datasets.reading import named

    for dataset, splits in real_records.SPLITS.items():
        text = f"{dataset}{real_records.OPTIONS.get(dataset, '')}:{'+'.join(splits)}"
        found = named.parse(text, dict(manual_dir=str(tmp_path / "real" / "files")))
        images = [
            {image for _, record in found.reader.records(split) for image in record.images}
            for split in splits
        ]
        assert all(images), dataset
        if dataset != "coco_captions":
            assert not images[0] & images[1], dataset
