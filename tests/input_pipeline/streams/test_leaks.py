"""Images that are evaluated on stay out of training."""

import json

import pytest
from made_data import (
    ASSEMBLE,
    SPEC,
    captions,
    image,
    leftovers,
    write_all,
    write_images,
    write_jsonl,
)
from made_data import config as jsonl_config
from official_data import config, write_coco

from core.errors import DataError
from input_pipeline.streams import leaks, pipeline
from input_pipeline.streams.leaks import HeldOut


def build(tree):
    return pipeline.build_streams(tree, ASSEMBLE, image_margin=0)["captions"]


def test_own_data_by_id(tmp_path):
    write_all(tmp_path, images=8)
    dev = write_jsonl(tmp_path / "dev.jsonl", captions(3, 1, first=6))  # img6 to img8
    tree = jsonl_config(tmp_path, eval_annotations=dev)
    with pytest.raises(
        DataError, match=r"(?s)evaluated on.*2 of 8 images: 'img6', 'img7'\n"
    ) as error:
        build(tree)
    for part in ("captions.jsonl\n", "split 'validation' of ", "dev.jsonl\n", "leaks=drop"):
        assert part in str(error.value)
    assert build(jsonl_config(tmp_path)).num_examples == 16  # nothing is evaluated on


def test_drop_leaves_them_out_and_counts_them(tmp_path, capsys):
    write_all(tmp_path, images=8)
    dev = write_jsonl(tmp_path / "dev.jsonl", captions(2, 1, first=6))
    tree = jsonl_config(tmp_path, eval_annotations=dev, leaks="drop")
    stream = build(tree)
    assert stream.num_examples == 12
    assert "0 texts without regions, 4 texts of images held out" in capsys.readouterr().out
    (path,) = (tmp_path / "cache").glob("skipped-train-*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["text_id"] for line in lines] == ["img6#0", "img6#1", "img7#0", "img7#1"]
    assert "dev.jsonl: 'img6'" in lines[0]["reason"]
    keys = {key for draw in range(3) for key in stream.batch(draw)["image_key"][:, 0].tolist()}
    assert len(keys) == 6
    catalog = pipeline.DataCatalog(tree)
    held_out = pipeline.build_evaluation(
        tree, "captions", ASSEMBLE, batch_size=2, catalog=catalog, image_margin=0
    )
    assert held_out.num_examples == 2  # what is evaluated on is whole
    assert build(jsonl_config(tmp_path, eval_annotations=dev, leaks="report")).num_examples == 16
    assert "leaks=report): 2 of 8 images: 'img6', 'img7'" in capsys.readouterr().out


def test_dropped_images_need_no_regions(tmp_path):
    write_all(tmp_path, images=8)
    write_jsonl(tmp_path / "captions.jsonl", captions(9, 2))
    (tmp_path / "held.txt").write_text("img8\n")
    tree = jsonl_config(tmp_path, held_out=str(tmp_path / "held.txt"), leaks="drop")
    assert build(tree).num_examples == 16
    (tmp_path / "held.txt").write_text("img0\n")
    with pytest.raises(DataError, match=r"(?s)no regions.*'img8'"):
        build(tree)


def test_images_that_are_never_trained_on_leak_nothing(tmp_path):
    write_all(tmp_path, images=8)
    write_jsonl(tmp_path / "captions.jsonl", captions(9, 2))
    (tmp_path / "held.txt").write_text("img8\n")  # it has captions, and no regions
    tree = jsonl_config(tmp_path, held_out=str(tmp_path / "held.txt"), leaks="error")
    tree.data.on_missing = "skip"
    assert build(tree).num_examples == 16
    (tmp_path / "held.txt").write_text("img8\nimg7\n")
    with pytest.raises(
        DataError, match=r"(?s)training images are evaluated on.*1 of 9 images: 'im"
    ):
        build(tree)


def test_unknown_mode(tmp_path):
    with pytest.raises(DataError, match=r"(?s)unknown leaks.*error.*report.*drop.*'warn'"):
        build(jsonl_config(write_all(tmp_path), leaks="warn"))
    assert "cache" not in leftovers(tmp_path)


def test_official_splits_and_lists(tmp_path):
    write_coco(tmp_path / "official", train2014=range(12), val2014=[20, 21], val2017=[21, 30])
    ids = [*range(12), 20, 21, 30]
    write_images(tmp_path / "store", SPEC, *((str(i), image(i)) for i in ids))
    with pytest.raises(DataError, match=r"(?s)split 'val2017'.*1 of 14 images: '21'"):
        build(config(tmp_path))
    assert build(config(tmp_path, train_split="train2014")).num_examples == 12
    held = tmp_path / "held.txt"
    held.write_text("coco:3\n000000000005\nvqa:7\n\n")
    lists = f"{held},coco_captions:val2014"
    tree = config(tmp_path, held_out=lists, leaks="drop")
    assert build(tree).num_examples == 10  # without 3, 5, 20, 21
    tree = config(tmp_path, train_split="train2014", held_out=lists)
    with pytest.raises(DataError, match=r"(?s)in common with .*held\.txt\n.*2 of 12.*'3', '5'"):
        build(tree)
    for entry, message in (
        ("nowhere.txt", r"cannot be read.*nowhere\.txt"),
        ("coco_captions:dev", r"unknown split.*'dev'"),
        ("scenes:test", r"without official files.*scenes:test"),
        ("jsonl:test", r"without official files"),
    ):
        with pytest.raises(DataError, match=rf"(?s){message}"):
            build(config(tmp_path, train_split="train2014", held_out=entry))


WRITTEN = {  # one image: (its id in the annotations, how a list calls it)
    "zeros there": ("000000000139", "139"),
    "zeros here": ("139", "000000000139"),
    "name over data sets": ("139", "coco:139"),
    "zeros over data sets": ("000000000139", "coco:139"),
    "file name": ("139", "COCO_val2014_000000000139.jpg"),
    "file name there": ("COCO_val2014_000000000139", "139"),
    "suffix": ("cat_7", "cat_7.jpg"),
    "suffix there": ("cat_7.JPG", "cat_7"),
    "path": ("cat_7", "pictures/val/cat_7.png"),
    "path of a number": ("139", "val2014/COCO_val2014_000000000139.jpg"),
    "folder there": ("movie/still@0.jpg", "still@0"),
    "both": ("movie/still@0", "vcr1images/movie/still@0.jpg"),
}


@pytest.mark.parametrize("case", sorted(WRITTEN))
def test_an_image_is_one_however_its_id_is_written(tmp_path, case):
    own, listed = WRITTEN[case]
    ids = [own, "a", "b"]
    write_images(tmp_path / "store", SPEC, *((name, image(i)) for i, name in enumerate(ids)))
    write_jsonl(tmp_path / "captions.jsonl", [{"image_id": i, "text": "a dog"} for i in ids])
    (tmp_path / "held.txt").write_text(f"{listed}\n")
    tree = jsonl_config(tmp_path, held_out=str(tmp_path / "held.txt"))
    with pytest.raises(DataError, match=r"1 of 3 images: ") as error:
        build(tree)
    assert repr(own) in str(error.value)


def test_other_images_are_not_taken_for_it():
    held = HeldOut(frozenset(["train/7.jpg", "x-7", "71", "coco:9"]), "list", by_id=True)
    assert leaks.find(["val/7", "y-7", "17", "8"], str, [held]) == {}
    assert leaks.find(["7"], str, [held]) == {}  # a split's name is no path
    assert leaks.find(["9"], str, [held]) == {0: "list"}
    assert leaks.find(["9"], str, [HeldOut(frozenset(["coco:9"]), "elsewhere")]) == {}
    assert leaks.find(["9"], "vg:{}".format, [held], {}) == {}


def test_own_ids_against_an_official_split(tmp_path):
    write_images(tmp_path / "store", SPEC, *((str(i), image(i)) for i in range(4)))
    write_jsonl(tmp_path / "captions.jsonl", [{"image_id": i, "text": "a dog"} for i in range(4)])
    write_coco(tmp_path / "official", val2014=[3, 77], train2014=[80])
    options = dict(manual_dir=str(tmp_path / "official"))
    tree = jsonl_config(tmp_path, held_out="coco_captions:val2014", **options)
    with pytest.raises(DataError, match=r"(?s)coco_captions:val2014.*1 of 4 images: '3'"):
        build(tree)
    with pytest.raises(DataError, match=r"(?s)held-out images are unknown.*train2014.*'coco:80'"):
        build(jsonl_config(tmp_path, held_out="coco_captions:train2014", **options))


def test_names_of_no_image_are_told_and_all_of_them_an_error(tmp_path, capsys):
    write_all(tmp_path, images=8)
    held = tmp_path / "held.txt"
    held.write_text("img7\nimage_8\nimage_9\n")
    tree = jsonl_config(tmp_path, held_out=str(held), leaks="drop")
    assert build(tree).num_examples == 14
    told = capsys.readouterr()
    assert "2 of the 3 images held out by" in told.out + told.err
    assert "such as 'image_8', 'image_9'" in told.out + told.err
    held.write_text("image_8\nimage_9\n")
    message = r"(?s)held-out images are unknown.*held\.txt.*'img0'.*2 names.*'image_8', 'image_9'"
    for mode in ("drop", "report", "error"):
        with pytest.raises(DataError, match=message):
            build(jsonl_config(tmp_path, held_out=str(held), leaks=mode))
    # Of an image that is there and not trained on nothing is to be said.
    write_jsonl(tmp_path / "captions.jsonl", captions(6, 2))
    held.write_text("img7.jpg\n")
    assert build(jsonl_config(tmp_path, held_out=str(held))).num_examples == 12
    told = capsys.readouterr()
    assert "held out by" not in told.out + told.err


def test_images_are_one_over_data_sets(tmp_path):
    """Own data named "coco:<id>" against COCO's validation images."""
    write_images(tmp_path / "store", SPEC, *((f"coco:{i}", image(i)) for i in range(6)))
    rows = [{"image_id": f"coco:{i}", "text": "a dog"} for i in range(6)]
    write_jsonl(tmp_path / "captions.jsonl", rows)
    write_coco(tmp_path / "official", val2014=[4, 77])
    tree = jsonl_config(
        tmp_path, manual_dir=str(tmp_path / "official"), held_out="coco_captions:val2014"
    )
    with pytest.raises(DataError, match=r"(?s)coco_captions:val2014.*1 of 6 images: 'coco:4'"):
        build(tree)


def test_visual_genome_holds_images_of_coco(tmp_path, capsys):
    path = tmp_path / "image_data.json"
    path.write_text(json.dumps([{"image_id": 1, "coco_id": 139}, {"image_id": 2, "coco_id": None}]))
    same = leaks.coco_names(str(path))
    assert same == {"vg:1": "coco:139"}
    coco, genome = HeldOut(frozenset(["coco:139"]), "c"), HeldOut(frozenset(["vg:1"]), "g")
    assert leaks.find(["2", "1"], "vg:{}".format, [coco], same) == {1: "c"}
    assert leaks.find(["2", "139"], "coco:{}".format, [genome], same) == {1: "g"}
    assert leaks.find(["2", "1"], "vg:{}".format, [genome], None) == {1: "g"}
    with pytest.raises(DataError, match=r"(?s)cannot be told.*against c.*data\.image_data"):
        leaks.find(["2", "1"], "vg:{}".format, [coco], None)
    assert leaks.find(["1"], "vg:{}".format, [coco], None, strict=False) == {}
    assert "cannot be told" in capsys.readouterr().out
    path.write_text(json.dumps([{"coco_id": 139}]))
    with pytest.raises(DataError, match=r"(?s)'image_id' is missing.*image_data\.json\[0\]"):
        leaks.coco_names(str(path))


def test_another_data_set_with_options_of_its_own_is_held_out(tmp_path):
    """Its options are not in the config's block: it is read with their defaults."""
    write_all(tmp_path)
    tree = jsonl_config(tmp_path, held_out="refcoco:val", manual_dir=str(tmp_path))
    with pytest.raises(DataError, match=r"refs\(unc\)\.p"):  # looked for, so far as it goes
        build(tree)
