"""Visual Genome's region descriptions: the official files in, phrases with their boxes out."""

import gzip
import json
import pathlib

import pytest
from entities_data import region, write_regions
from made_data import ASSEMBLE, SPEC, image, write_images
from official_data import config

from core.errors import DataError
from input_pipeline.datasets import visual_genome_regions as regions
from input_pipeline.datasets.reading import json_list
from input_pipeline.datasets.records import GroundedCaption, Mention, RowOptions
from input_pipeline.streams import pipeline
from input_pipeline.texts.rows import EMPTY, Row, Skipped


def read(folder, split="full", **options):
    return list(regions.records(folder, split, **options))


def test_a_phrase_names_its_box(tmp_path):
    folder = write_regions(tmp_path, {4: [region(9, phrase=" the\tclock  is green ")]})
    (found,) = read(folder)
    text, box = "the clock is green", (2.0, 3.0, 12.0, 23.0)
    assert found == GroundedCaption("4#9", "4", text, (Mention(0, 18, 0),), (box,))
    assert list(found.rows(RowOptions())) == [
        Row("4", text, "4#9", mentions=((0, 18, 0),), values={"object_boxes": list(box)})
    ]
    assert regions.image_name("4") == "vg:4"


def test_an_image_may_be_named_as_the_documentation_has_it(tmp_path):
    folder = write_regions(tmp_path, {4: [region(9)]})
    before = read(folder)
    path = tmp_path / "region_descriptions.json"
    path.write_text(path.read_text().replace('"id"', '"image_id"'))
    assert read(folder) == before
    path.write_text(path.read_text().replace('"image_id": 4, "regions"', '"number": 4, "regions"'))
    with pytest.raises(DataError, match=r"(?s)'image_id' is missing.*\[0\]"):
        read(folder)


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((-2, -1, 10, 20), (0, 0, 8, 19)),
        ((70, 50, 10, 10), (70, 50, 80, 60)),
        ((70, 50, 11, 30), (70, 50, 80, 60)),
        ((2.5, 3, 1, 1), (2.5, 3, 3.5, 4)),
        ((0, 0, 80, 0), None),
        ((80, 0, 5, 5), None),
        ((179, -904, 55, 25), None),
    ],
)
def test_boxes_are_cut_at_the_edges_of_the_picture(tmp_path, box, cut):
    (found,) = read(write_regions(tmp_path, {4: [region(9, box=box)]}))
    assert found.boxes == (() if cut is None else (cut,))
    assert found.mentions == (() if cut is None else (Mention(0, 18, 0),))
    assert found.text == "the clock is green"


def test_splits_share_no_image(tmp_path):
    images = {n: [region(1, n), region(2, n, "a dog")] for n in (100, 7, 2300, 101)}
    folder = write_regions(tmp_path, images)
    val, train = read(folder, "val"), read(folder, "train")
    assert [found.text_id for found in val] == ["100#1", "100#2", "2300#1", "2300#2"]
    assert [found.text_id for found in train] == ["7#1", "7#2", "101#1", "101#2"]
    assert len(read(folder, "full")) == 8


def test_what_an_image_has_again_is_left_out(tmp_path):
    again = [region(1), region(2, phrase="the clock  is green"), region(3, box=(2, 3, 10, 21)),
             region(4, phrase="The clock is green")]  # fmt: skip
    folder = write_regions(tmp_path, {4: again, 5: [region(1, 5)]})
    first, second, *rest = read(folder)
    assert second == Skipped("4#2", regions.AGAIN)
    assert [found.text_id for found in (first, *rest)] == ["4#1", "4#3", "4#4", "5#1"]


def test_what_is_left_out_is_told_by_its_reason(tmp_path, capsys):
    again = [region(1), region(2), region(3, phrase=" "), region(4, phrase="a dog")]
    write_regions(tmp_path / "official", {4: again, 100: [region(1, 100)]})
    write_images(tmp_path / "store", SPEC, ("4", image(4)))
    tree = config(tmp_path, "visual_genome_regions", train_split="train", eval_split="val",
                  on_missing="skip")  # fmt: skip
    (stream,) = pipeline.build_streams(tree, ASSEMBLE, image_margin=0).values()
    assert stream.num_examples == 2
    line = f"(1 rows without text, 0 texts without regions, 1 rows: {regions.AGAIN}); list: "
    told = capsys.readouterr().out.partition(line)[2].split()[0]
    assert len(pathlib.Path(told).read_text().splitlines()) == 2


def test_empty_phrases(tmp_path):
    folder = write_regions(tmp_path, {4: [region(1), region(2, phrase=" ")]})
    with pytest.raises(
        DataError, match=r"(?s)phrase is empty.*\[0\]\.regions\[1\].*on_missing=skip"
    ):
        read(folder)
    first, second = read(folder, on_missing="skip")
    assert (first.text_id, second.reason) == ("4#1", EMPTY)
    assert "regions[1]" in second.text_id


BAD = {
    "image": ({4: [region(1, 5)]}, r"another image.*\[0\]\.regions\[0\].*image_id 4.*: 5"),
    "twice": ({4: [region(1), region(1, phrase="b")]}, r"occurs twice.*regions\[1\].*'1', first"),
    "phrase": ({4: [region(1, phrase=None)]}, r"'phrase'.*a string"),
    "width": ({4: [region(1, box=(1, 2, -3, 4))]}, r"box is malformed.*width >= 0.*-3"),
    "number": ({4: [region(1, box=(1, "2", 3, 4))]}, r"'y'.*a number"),
    "huge": ({4: [region(1, box=(1, 2, 3, 10**30))]}, r"'height'.*63 bits"),
    "no list": ({4: {}}, r"'regions'.*a list"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_regions(tmp_path, case):
    images, match = BAD[case]
    with pytest.raises(DataError, match=f"(?s){match}"):
        read(write_regions(tmp_path, images))


BAD_FILES = {
    "missing": (None, "[]", r"missing.*region_descriptions\.json.*visualgenome"),
    "no sizes": ("[]", None, r"missing.*image_data\.json"),
    "an object": ('{"id": 4}', "[]", r"malformed JSON.*at item 0.*no list"),
    "cut": ('[{"id": 4, "regions": []}, {"id": 5', "[]", r"malformed JSON.*at item 1"),
    "more": ("[] []", "[]", r"malformed JSON.*more after the end"),
    "no object": ("[7]", "[]", r"an object.*int 7"),
    "twice": (json.dumps([dict(id=4, regions=[])] * 2), "[]", r"image id occurs twice.*\[1\]"),
    "unknown": (
        json.dumps([dict(id=4, regions=[region(1)])]),
        '[{"image_id": 5, "width": 8, "height": 6}]',
        r"an image has no size.*\[0\].*image_id 4 in .*image_data",
    ),
    "area": ("[]", '[{"image_id": 5, "width": 8, "height": 0}]', r"no area.*\[0\].*\(8, 0\)"),
    "not UTF-8": (b'[{"id": 4, "regions": []}, "\xe9"]', "[]", r"not UTF-8.*byte 28"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path, case):
    descriptions, data, match = BAD_FILES[case]
    for name, text in (("region_descriptions", descriptions), ("image_data", data)):
        if text is not None:
            raw = text if isinstance(text, bytes) else text.encode()
            (tmp_path / f"{name}.json").write_bytes(raw)
    with pytest.raises(DataError, match=f"(?s){match}"):
        read(str(tmp_path))


@pytest.mark.parametrize("piece", [1, 2, 3, 2**20])
def test_long_files_are_read_in_pieces(tmp_path, monkeypatch, piece):
    """Whatever character a piece ends within, packed or not."""
    monkeypatch.setattr(json_list, "PIECE", piece)
    made = [{"a": "é\U0001f600"}, [1.5, "\u2028"], 7]
    text = "\ufeff" + json.dumps(made, ensure_ascii=False)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.json").write_text(text)
    for name in ("a.json", "a.json.gz"):
        assert list(json_list.items(tmp_path / name)) == list(enumerate(made))
    raw = text.encode()
    (tmp_path / "a.json").write_bytes(raw.replace(b"\xa9", b"\xff"))  # the end of é
    at = raw.index(b"\xc3")
    with pytest.raises(DataError, match=f"(?s)not UTF-8.*at byte {at}:"):
        list(json_list.items(tmp_path / "a.json"))
