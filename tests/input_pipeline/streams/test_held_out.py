"""Lists of images that stay out of training: how they are written, and whose ids they are."""

import json

import numpy as np
import pytest
from made_data import ASSEMBLE, SPEC, image, write_images, write_jsonl
from official_data import config, write_coco

from configs import common
from core.errors import DataError
from input_pipeline.streams import held_out, leaks, pipeline
from input_pipeline.streams.leaks import HeldOut
from objectives import assemble


def lists(tmp_path, entries):
    block = common.lock(common.data_block("coco_captions"))
    block.update(held_out=entries, manual_dir=str(tmp_path))
    return held_out.read(block)


def array(path, items, dtype=None):
    np.save(path, np.asarray(items, dtype), allow_pickle=True)
    return path


@pytest.mark.parametrize(
    ("items", "dtype"),
    [
        ([139, 7], np.int64),
        ([139, 7], np.uint32),
        (["139", "000000000007"], None),
        ([b"139", b"7"], None),
        (["139", 7], object),
        (["COCO_val2014_000000000139.jpg", "val2014/COCO_val2014_000000000007.jpg"], None),
    ],
)
def test_arrays_of_ids_are_of_the_collection_that_is_named(tmp_path, items, dtype):
    path = array(tmp_path / "coco_test_ids.npy", items, dtype)
    (item,) = lists(tmp_path, f"coco={path}")
    assert len(item.names) == 2
    assert {name.partition(":")[0] for name in item.names} == {"coco"}
    found = leaks.find(["139", "8", "7"], "coco:{}".format, [item])
    assert found == {0: f"coco={path}", 2: f"coco={path}"}
    assert leaks.find(["139", "7"], "flickr30k:{}".format, [item]) == {}


def test_text_lists_and_names_of_another_collection_in_them(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("139\nvg:7\n\n0000009\n")
    (item,) = lists(tmp_path, f"coco={path}")
    assert item.names == {"coco:139", "vg:7", "coco:0000009"}
    (alone,) = lists(tmp_path, str(path))
    assert alone.names == {"139", "vg:7", "0000009"}
    odd = tmp_path / "a=b.txt"
    odd.write_text("139\n")
    assert lists(tmp_path, str(odd))[0].names == {"139"}


def test_what_is_no_list_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    array(tmp_path / "floats.npy", [1.5, 2.0])
    array(tmp_path / "table.npy", [[1, 2], [3, 4]])
    array(tmp_path / "lists.npy", [[1], None], object)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "floats.npy").read_bytes()[:90])
    for entry, message in (
        ("coco={}/empty.txt", "is empty"),
        ("{}/floats.npy", r"no list of images.*float64 \(2,\)"),
        ("coco={}/table.npy", r"no list of images.*\(2, 2\)"),
        ("coco={}/lists.npy", r"no list of images.*lists\.npy\[0\].*\[1\]"),
        ("coco={}/cut.npy", r"not a readable \.npy.*cut\.npy"),
        ("flickr={}/empty.txt", r"is empty"),
        ("coco={}/nowhere.npy", r"cannot be read.*nowhere\.npy"),
    ):
        with pytest.raises(DataError, match=rf"(?s){message}"):
            lists(tmp_path, entry.format(tmp_path))
    (tmp_path / "ids.txt").write_text("7\n")
    with pytest.raises(DataError, match=r"(?s)unknown collection.*coco.*flickr30k.*vg.*'flickr'"):
        lists(tmp_path, f"flickr={tmp_path}/ids.txt")


def test_collections_are_those_of_the_data_sets():
    assert {"coco", "vg", "gqa", "flickr30k", "nlvr2", "vcr"} <= set(held_out.spaces())
    assert "" not in held_out.spaces()


def test_lists_of_both_numberings_need_no_image_data():
    """12-in-1's coco_test_ids and genome_test_ids: what is in both is on both lists."""
    coco = HeldOut(frozenset(["coco:139"]), "c", by_id=True, from_file=True)
    genome = HeldOut(frozenset(["vg:1"]), "g", by_id=True, from_file=True)
    assert leaks.find(["1", "2"], "vg:{}".format, [coco, genome]) == {0: "g"}
    assert leaks.find(["139", "1"], "coco:{}".format, [coco, genome]) == {0: "c"}
    with pytest.raises(DataError, match=r"cannot be told"):
        leaks.find(["1", "2"], "vg:{}".format, [coco])
    split = HeldOut(frozenset(["coco:139"]), "split 'val' of another stream")
    with pytest.raises(DataError, match=r"cannot be told"):
        leaks.find(["1", "2"], "vg:{}".format, [coco, genome, split])
    # Neither is asked of images that are of neither.
    assert leaks.find(["1"], "flickr30k:{}".format, [coco, split]) == {}


def two_streams(folder, **shared):
    """Captions of COCO's images 0 to 5, and labels of Visual Genome's, all in one store."""
    coco, genome = ([f"{space}:{i}" for i in range(6)] for space in ("coco", "vg"))
    if not (folder / "store").exists():
        pairs = ((name, image(i)) for i, name in enumerate([*coco, *genome]))
        write_images(folder / "store", SPEC, *pairs)
        (folder / "vocab.txt").write_text(
            "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "dog"]) + "\n"
        )
    write_jsonl(
        folder / "labels.jsonl", [dict(image_id=i, text="dog", label=i[-1]) for i in genome]
    )
    streams = {
        "captions": common.stream_block(("words",), batch_size=2),
        "labels": common.stream_block(("classes",), batch_size=2),
    }
    made = common.experiment(dict(name="none"), "jsonl", streams, {}, {})
    for block in made.streams.values():
        block.update(max_text=8, max_regions=5, max_length=13, order="stored")
    made.data.update(
        dir=str(folder / "data"),
        annotations=write_jsonl(folder / "c.jsonl", [dict(image_id=i, text="dog") for i in coco]),
        regions=str(folder / "store"),
        vocab=str(folder / "vocab.txt"),
        leaks="drop",
        image_data=str(folder / "image_data.json"),
        **shared,
    )
    (folder / "image_data.json").write_text(json.dumps([{"image_id": 4, "coco_id": 3}]))
    made.streams.labels.data.update(
        annotations=str(folder / "labels.jsonl"), records="classify", answer_count=1
    )
    return made


def sizes(made):
    kinds = dict.fromkeys(("captions", "labels"), assemble.caption)
    streams = pipeline.build_streams(made, kinds, image_margin=0)
    return {name: stream.num_examples for name, stream in streams.items()}


def test_a_list_of_one_collection_in_a_run_over_two(tmp_path, capsys):
    path = array(tmp_path / "ids.npy", [3, 5])
    # COCO's image 3 is Visual Genome's 4, and so it is one of both.
    assert sizes(two_streams(tmp_path, held_out=f"coco={path}")) == dict(captions=4, labels=5)
    told = capsys.readouterr()
    assert "clean splits" in told.out
    assert "held out by" not in told.err  # every name is of an image of the run
    assert sizes(two_streams(tmp_path, held_out=f"vg={path}")) == dict(captions=6, labels=4)


def test_ids_alone_in_a_run_over_two_collections_are_refused(tmp_path):
    path = array(tmp_path / "ids.npy", [3, 5])
    message = r"(?s)several collections.*ids\.npy.*coco, vg.*held_out=coco=.*streams\.<name>"
    with pytest.raises(DataError, match=message):
        sizes(two_streams(tmp_path, held_out=str(path)))
    made = two_streams(tmp_path)
    made.streams.labels.data.held_out = str(path)  # for one of them they are its own
    assert sizes(made) == dict(captions=6, labels=4)


def test_a_list_is_judged_by_all_streams(tmp_path, capsys):
    known, unknown = array(tmp_path / "a.npy", [3, 77]), array(tmp_path / "b.npy", [77, 78])
    sizes(two_streams(tmp_path, held_out=f"vg={known}"))
    told = capsys.readouterr().err
    assert told.count("1 of the 2 images held out by") == 1
    assert "'vg:77'" in told
    with pytest.raises(DataError, match=r"(?s)are unknown.*b\.npy.*'coco:0'.*2 names.*'vg:77'"):
        sizes(two_streams(tmp_path, held_out=f"vg={known},vg={unknown}"))


def test_further_splits_are_kept_out_without_being_evaluated(tmp_path):
    write_coco(tmp_path / "official", train2014=range(12), val2014=[3, 20], val2017=[5, 30])
    ids = [*range(12), 20, 30]
    write_images(tmp_path / "store", SPEC, *((str(i), image(i)) for i in ids))

    def build(**data):
        tree = config(tmp_path, train_split="train2014", leaks="drop", **data)
        return pipeline.build_streams(tree, ASSEMBLE, image_margin=0)["captions"].num_examples

    assert build() == 11
    assert build(test_split="val2014") == 10
    with pytest.raises(DataError, match=r"(?s)unknown split.*'test'.*test_split"):
        build(test_split="test")
    with pytest.raises(DataError, match=r"captions_train2017") as error:
        build(test_split="train2017")
    assert "test_split=''" in error.value.__notes__[0]
