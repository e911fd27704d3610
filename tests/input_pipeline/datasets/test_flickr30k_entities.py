"""Flickr30k Entities: sentences and annotations in, captions whose phrases have boxes out."""

import gzip
import pathlib
import re

import pytest
from entities_data import IMAGES, write_entities, xml
from made_data import REAL

from core.errors import DataError
from input_pipeline.datasets import flickr30k_entities as entities
from input_pipeline.datasets.reading import entities as reading
from input_pipeline.datasets.records import GroundedCaption, Mention, RowOptions
from input_pipeline.texts.rows import Row, Skipped


def read(folder, split="full", **options):
    return list(entities.records(str(folder), split, **options))


MAN, SHIRT = (10.0, 10.0, 39.0, 59.0), (14.0, 20.0, 34.0, 39.0)
BOTH, DOGS, BALL = (10.0, 5.0, 89.0, 69.0), (0.0, 0.0, 59.0, 49.0), (0.0, 4.0, 8.0, 8.0)
LADDER = "A man in a blue shirt climbs a ladder ."
HOUSE = "Two men near a house , one above the other ."
BALLS = "Dogs with a ballrun at each other ."


def test_phrases_name_the_box_around_all_of_theirs(tmp_path):
    """No mention without a box: the scene, what is not seen, number 0."""
    dogs, *men = read(write_entities(tmp_path))
    assert men == [
        GroundedCaption("1007#0", "1007", LADDER, (Mention(0, 5, 0), Mention(9, 21, 1)),
                        (MAN, SHIRT)),
        GroundedCaption("1007#1", "1007", HOUSE, (Mention(0, 7, 0), Mention(33, 42, 0)), (BOTH,)),
        GroundedCaption("1007#2", "1007", "It rains .", (), ()),
    ]  # fmt: skip
    assert dogs == GroundedCaption(
        "42#0", "42", BALLS, (Mention(0, 4, 0), Mention(10, 16, 1), Mention(23, 33, 0)),
        (DOGS, BALL),
    )  # fmt: skip
    words = [[r.text[m.start : m.end] for m in r.mentions] for r in (dogs, *men)]
    assert words == [
        ["Dogs", "a ball", "each other"],
        ["A man", "a blue shirt"],
        ["Two men", "the other"],
        [],
    ]
    assert entities.image_name("42") == "flickr30k:42"


def test_rows_carry_mentions_and_boxes(tmp_path):
    dogs, man, *_ = read(write_entities(tmp_path))
    assert list(man.rows(RowOptions(source=2))) == [
        Row("1007", LADDER, "1007#0", mentions=((0, 5, 0), (9, 21, 1)), source=2,
            values={"object_boxes": [*MAN, *SHIRT]})
    ]  # fmt: skip
    assert dogs.shown({"id": "42#0", "accuracy": 1}).boxes[1] == (BALL, "a ball", "mentioned")


def test_splits_are_lists_of_images(tmp_path):
    folder = write_entities(tmp_path, train=["42"], val=["1007", "42"])
    assert [record.image_id for record in read(folder, "train")] == ["42"]
    assert [record.text_id for record in read(folder, "val")] == [
        *(f"1007#{k}" for k in range(3)),
        "42#0",
    ]
    names = [path.removeprefix(folder) for path in entities.files(folder, "train")]
    assert names == ["/train.txt", "/Sentences/42.txt", "/Annotations/42.xml"]
    with pytest.raises(DataError, match=r"(?s)missing.*test\.txt.*flickr30k_entities"):
        read(folder, "test")


def test_packed_files_and_folders_in_lower_case(tmp_path):
    folder = write_entities(tmp_path)
    before = read(folder)
    for path in (*tmp_path.glob("*/*.xml"), *tmp_path.glob("*/*.txt")):
        if path.suffix == ".xml":
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    for name in ("Sentences", "Annotations"):
        (tmp_path / name).rename(tmp_path / name.lower())
    assert read(folder) == before
    assert read(folder, on_missing="skip") == before


def test_missing_annotations(tmp_path):
    folder = write_entities(tmp_path)
    (tmp_path / "Annotations" / "42.xml").unlink()
    with pytest.raises(DataError, match=r"(?s)missing.*42\.xml.*on_missing=skip"):
        entities.files(folder, "full")
    skipped, *rest = read(folder, on_missing="skip")
    assert skipped == Skipped(f"42#0 ({folder}/Sentences/42.txt:1)", "no annotations")
    assert len(rest) == 3
    assert len(entities.files(folder, "full", on_missing="skip")) == 3


def test_a_phrase_that_the_annotations_do_not_know(tmp_path):
    folder = write_entities(tmp_path)
    path = tmp_path / "Annotations" / "1007.xml"
    path.write_text(xml((100, 80), IMAGES["1007"][2][2:]))
    with pytest.raises(
        DataError, match=r"(?s)not annotated.*1007\.txt:1.*xml.*1, of 'A man'.*skip"
    ):
        read(folder)
    reasons = [r.reason if isinstance(r, Skipped) else r.text_id for r in
               read(folder, on_missing="skip")]  # fmt: skip
    assert reasons == ["42#0", "a phrase without annotation", "1007#1", "1007#2"]


def tokens(folder, **changes):
    lines = [f"1007.jpg#{k}\t{text}" for k, text in enumerate((LADDER, HOUSE, "It Rains"))]
    lines.insert(1, f"42.jpg#0\t{BALLS}")
    text = "\n".join(lines)
    for old, new in changes.values():
        text = text.replace(old, new)
    (folder / "results_20130124.token").write_text(text)


def test_sentences_are_compared_with_the_captions(tmp_path):
    folder = write_entities(tmp_path, train=["42"])
    before = read(folder)
    tokens(tmp_path)
    assert read(folder) == before  # case and punctuation do not count
    assert entities.files(folder, "train")[-1].endswith("results_20130124.token")
    tokens(tmp_path, word=("a ladder", "a tree"))
    with pytest.raises(DataError) as caught:
        read(folder)
    expected = (
        r"(?s)not its captions.*1007\.txt.*caption 0 'A man.*tree \.'.*sentence 0.*out of the"
    )
    assert re.search(expected, str(caught.value))
    tokens(tmp_path, number=("1007.jpg#2", "1008.jpg#2"))
    with pytest.raises(DataError, match=r"(?s)1007\.txt.*2 captions.*3 sentences"):
        read(folder)
    assert read(folder, "train") == before[:1]  # other images do not matter


BAD = {
    "no end": (
        "[/EN#1/people A man in a blue shirt",
        r"phrase is malformed.*1007\.txt:1.*A man in",
    ),
    "no number": ("[/EN#/people A man]", r"phrase is malformed.*'\[/EN#/people A man\]'"),
    "no type": ("[/EN#1 A man] .", r"phrase is malformed.*EN#1 A man"),
    "nothing else": ("[/EN#1/people  ]", r"caption is empty.*1007\.txt:1"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_marks(tmp_path, case):
    text, match = BAD[case]
    folder = write_entities(tmp_path, {"1007": ([text], *IMAGES["1007"][1:])})
    with pytest.raises(DataError, match=f"(?s){match}"):
        read(folder)


@pytest.mark.parametrize(
    ("text", "plain", "found"),
    [
        (" [/EN#1/a x]\t[/EN#02/b/c\u3000y\u2003 z ]'s ", "x y z 's", ["x", "y z"]),
        ("a [/EN#1/a  ] b", "a b", [""]),
        ("(it)[/EN#3/a A&M [ 2 ]s", "(it)A&M [ 2 s", ["A&M [ 2"]),
        ("[/EN#0/notvisual é\U0001f600]", "é\U0001f600", ["é\U0001f600"]),
    ],
)
def test_characters_of_phrases(text, plain, found):
    text = text.replace("\u3000", " \u3000")
    got, phrases = reading.sentence(text, "here")
    assert (got, [got[p.start : p.end] for p in phrases]) == (plain, found)
    assert [p.number for p in phrases] == re.findall(r"EN#0?(\d)", text)


SOUND = xml((100, 80), [("1", (11, 11, 40, 60)), ("2", "scene")])
BAD_XML = {
    "cut": (SOUND[:-30], r"annotations of an image are malformed.*a\.xml.*expected: XML.*found"),
    "not XML": ("A man .", r"malformed.*expected: XML"),
    "another": ("<svg/>", r"malformed.*<annotation>.*'<svg>'"),
    "entities": (
        '<!DOCTYPE a [<!ENTITY b "cc">]>' + SOUND.replace("jpg", "&b;"),
        r"malformed.*elements alone.*a declaration",
    ),
    "large": ("<!-- -->" + SOUND + " " * reading.MAX_XML, r"malformed.*more than 4,194,304 bytes"),
    "no size": (SOUND.replace("width", "breadth"), r"<size><width>, a whole number of 1.*''"),
    "no area": (SOUND.replace(">80<", ">0<"), r"<size><height>, a whole number of 1.*'0'"),
    "no name": (SOUND.replace("<name>1</name>", ""), r"object 0.*a <name>.*none"),
    "a word": (SOUND.replace("<name>1<", "<name>man<"), r"'name' is no number.*object 0.*'man'"),
    "neither": (SOUND.replace("<scene>1<", "<scene>0<"), r"object 1.*<scene> or <nobndbox> that"),
    "no flag": (SOUND.replace("nobndbox", "nobox"), r"object 1.*<nobndbox>.*''"),
    "corner": (SOUND.replace(">40<", ">4e1<"), r"object 0.*<bndbox><xmax>.*'4e1'"),
    "no corner": (SOUND.replace("ymin", "top"), r"object 0.*<bndbox><ymin>.*''"),
    "swapped": (SOUND.replace(">40<", ">10<"), r"no part.*object 0.*100 x 80.*11 11 10 60"),
    "outside": (SOUND.replace(">11<", ">101<").replace(">40<", ">140<"), r"no part.*101 101 140"),
}


@pytest.mark.parametrize("case", BAD_XML)
def test_damaged_annotations(tmp_path, case):
    text, match = BAD_XML[case]
    path = tmp_path / "a.xml"
    path.write_text(SOUND)
    assert reading.boxes(str(path)) == {"1": MAN, "2": None}
    path.write_text(text)
    with pytest.raises(DataError, match=f"(?s){match}"):
        reading.boxes(str(path))


def test_annotations_that_are_no_text(tmp_path):
    (tmp_path / "a.xml").write_bytes(SOUND.replace("jpg", "\xe9").encode("latin-1"))
    with pytest.raises(DataError, match=r"(?s)not UTF-8.*a\.xml"):
        reading.boxes(str(tmp_path / "a.xml"))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL}")
def test_real_sentences():
    folder = REAL / "fixtures" / "flickr30k"
    skipped = read(folder, on_missing="skip")
    assert [row.reason for row in skipped] == ["no annotations"] * 10
    for path in reading.sentence_files(str(folder)):
        for line in pathlib.Path(path).read_text().splitlines():
            text, phrases = reading.sentence(line, path)
            words = [text[p.start : p.end] for p in phrases]
            assert words == re.findall(r"\[/EN#\S+ (.*?)\]", line)
            assert all(words)
