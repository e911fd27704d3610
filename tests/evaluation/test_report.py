"""The report: self-contained, balanced, escaped; boxes where they belong; pictures scaled down."""

import base64
import collections
import html.parser
import io
import re

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from core.headings import Heading
from evaluation.report import details, report, report_pictures
from evaluation.report.report import Card, Picture

VOID = {"meta", "input", "link", "br", "img", "hr"}


class Page(html.parser.HTMLParser):
    """Tags of a page; fails where one is not closed in order or an id occurs twice."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.ids = [], collections.defaultdict(list), [], set()
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), attrs
        self.tags[tag].append(dict(attrs))
        name = dict(attrs).get("id")
        assert name is None or name not in self.ids
        self.ids.add(name)

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def encoded(width, height, kind="JPEG", **options):
    picture = Image.new("RGB", (width, height))
    picture.paste((255, 0, 0), (0, 0, width // 2, height))  # left half red, right half black
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def shown(svg):
    """The picture inside a drawing."""
    kind, data = re.search(r'href="data:image/(\w+);base64,([^"]+)"', svg).groups()
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.format.lower() == kind
    return picture


def written(tmp_path, cards, title="run", figures=None):
    path = tmp_path / "new" / "index.html"
    report.write(path, title, figures or {}, cards)
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]  # nothing temporary is left
    return path.read_text(encoding="utf-8")


def drawn(picture):
    found = report_pictures.draw(picture)
    return found.svg, found.problem


def rectangles(svg, colour):
    fields = (
        dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in re.findall("<rect[^>]*>", svg)
    )
    return [
        tuple(float(f[name]) for name in ("x", "y", "width", "height"))
        for f in fields
        if f.get("stroke") == colour
    ]


def test_a_page_has_what_it_was_given_and_is_well_formed(tmp_path):
    cards = [
        Card("q1", [("question", "What?"), ("true", "a cat")], [Picture((480, 640))], True),
        Card("q2", [("question", "Where?")], [Picture((4, 4)), Picture((4, 4))], False),
        Card("q3", right=None),
    ]
    figures = {"accuracy": 0.61234, "examples": np.int64(12345), "split": "val", "loss": None}
    text = written(tmp_path, iter(cards), "VQA run", figures)
    assert text.startswith("<!DOCTYPE html>")
    page = Page(text)
    words = " ".join(" ".join(page.text).split())
    for wanted in ("VQA run", "0.6123", "12,345", "What?", "a cat", "✓ right", "✗ wrong", "–"):
        assert wanted in words
    assert words.count("✓ right") == 2  # the mark and the button
    assert [a["class"] for a in page.tags["article"]] == [
        "card right",
        "card wrong",
        "card unknown",
    ]
    assert "all (3) ✓ right (1) ✗ wrong (1) truth unknown (1)" in words
    assert "3 of 3 pictures are missing" in words
    assert "--config.data.pictures" in words


def test_metrics_in_words_beside_priors_with_curve_command_and_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(details.sys, "argv", ["main.py", "--config=a b.py", "--workdir=<x>"])
    known = {
        "evals/validation/vqa_accuracy": Heading("questions answered right", "share"),
        "evals/validation/vqa": Heading("loss of vqa"),
    }
    values = {
        "evals/validation/vqa": 1.25, "evals/validation/vqa_accuracy": 0.5,
        "evals/validation/vqa_accuracy_prior": 0.25, "evals/validation/filled": 0.7,
        "evals/official/accuracy": None,
    }  # fmt: skip
    measured = details.Measured(
        values=values,
        before={"evals/validation/vqa": 9.0, "evals/validation/vqa_accuracy": 0.0},
        known=known,
        splits={"validation": dict(split="minival", examples=3000)},
        notes=["the best is of step <7>"],
        curve=encoded(4, 4, "PNG"),
    )
    page = Page(_written(tmp_path, measured))
    words = " ".join(" ".join(page.text).split())
    for wanted in (
        "metric before training after prior",
        "validation: split minival, 3,000 examples",
        "loss of vqa vqa 9 1.25",
        "questions answered right vqa_accuracy 0.0 % 50.0 % 25.0 %",
        "official accuracy accuracy no labels",
        "the most frequent answer",
        "the best is of step <7>",
        "made by python main.py '--config=a b.py' '--workdir=<x>'",
        '"lr": 0.5',
    ):
        assert wanted in words, wanted
    assert "filled" not in words
    assert "vqa_accuracy_prior" not in words
    (curve,) = page.tags["img"]
    assert curve["src"].startswith("data:image/png;base64,")
    # Without a training there is one column of values.
    plain = details.Measured(values=values, known=known)
    words = " ".join(" ".join(Page(_written(tmp_path, plain)).text).split())
    assert "metric value prior" in words
    assert "questions answered right vqa_accuracy 50.0 % 25.0 %" in words


def _written(tmp_path, measured):
    path = tmp_path / "index.html"
    report.write(
        path, "run", {}, [], details.of(measured, ConfigDict(dict(optimizer=dict(lr=0.5))))
    )
    return path.read_text(encoding="utf-8")


def test_every_choice_of_cards_has_its_rule(tmp_path):
    text = written(tmp_path, [Card("a", right=True), Card("b"), Card("c", right=False)])
    page = Page(text)
    names = [a["id"].removeprefix("show-") for a in page.tags["input"]]
    assert names == ["all", "right", "wrong", "unknown"]
    assert ["checked" in a for a in page.tags["input"]] == [True, False, False, False]
    for name in names[1:]:
        assert f"#show-{name}:checked ~ main .card:not(.{name})" in text
    assert not Page(written(tmp_path, [Card("a")])).tags["input"]  # nothing to choose from


def test_no_text_becomes_markup_or_breaks_the_file(tmp_path):
    bad = "<script>alert('x')</script>\"'&</style>\ud800\0<!--"
    picture = Picture((10, 10), None, [((1, 1, 5, 5), bad, "true")], bad)
    text = written(tmp_path, [Card(bad, [(bad, bad)], [picture], True)], bad, {bad: bad})
    page = Page(text)
    assert not page.tags["script"]
    assert "\0" not in text
    assert "<!--" not in text
    assert "".join(page.text).count("<script>alert('x')</script>\"'&</style>��<!--") >= 6


def test_nothing_outside_the_file_is_asked_for(tmp_path):
    card = Card("a", pictures=[Picture((10, 10), encoded(10, 10, "PNG"))])
    page = Page(written(tmp_path, [card]))
    for attributes in (a for tags in page.tags.values() for a in tags):
        for name, value in attributes.items():
            if name in ("href", "src", "xlink:href", "action"):
                assert value.startswith("data:image/"), (name, value)
    rule = next(a["content"] for a in page.tags["meta"] if "http-equiv" in a)
    assert rule == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    text = (tmp_path / "new" / "index.html").read_text(encoding="utf-8")
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert ".card.right" in style
    assert "url(" not in style
    assert "@import" not in style


def test_a_failure_leaves_the_page_that_was_there(tmp_path):
    path = tmp_path / "index.html"
    path.write_text("old")

    def cards():
        yield Card("a")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        report.write(path, "run", {}, cards())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_boxes_are_drawn_in_the_pictures_pixels():
    # 960 x 480 is drawn at half its size: 480 x 240.
    boxes = [((100, 50, 500, 250), "cat", "true"), ((100, 100, 300, 200), "dog", "predicted")]
    svg, problem = drawn(Picture((480, 960), None, boxes, "139"))
    assert problem == "no picture"
    assert 'viewBox="0 0 480.0 240.0"' in svg
    colours = {kind: style.colour for kind, style in report_pictures.KINDS.items()}
    assert rectangles(svg, colours["true"]) == [(50, 25, 200, 100)]
    assert rectangles(svg, colours["predicted"]) == [(50, 50, 100, 50)]
    assert 'aria-label="139: true box cat; predicted box dog"' in svg
    assert len({(s.colour, s.dashes) for s in report_pictures.KINDS.values()}) == 4
    assert len({s.dashes for s in report_pictures.KINDS.values()}) == 4  # told without colours


def test_named_objects_have_colours_of_their_own():
    boxes = [((i, 0, 50 + i, 50), f"object {i}", "mentioned") for i in range(4)]
    svg, _ = drawn(Picture((480, 480), None, boxes))
    found = [rectangles(svg, colour) for colour in report_pictures.MENTIONED]
    assert [len(one) for one in found] == [1, 1, 1, 1]
    others = {s.colour for k, s in report_pictures.KINDS.items() if k != "mentioned"}
    assert not others & set(report_pictures.MENTIONED)


def test_a_box_beyond_the_picture_stays_visible():
    svg, _ = drawn(Picture((100, 100), None, [((-50, -9, 900, 110), "", "true")]))
    (box,) = rectangles(svg, report_pictures.KINDS["true"].colour)
    assert box == (1.5, 1.5, 477, 477)


def test_labels_do_not_cover_each_other_and_stay_inside():
    boxes = [((5, 5, 90, 90), f"a person called number {i}", "mentioned") for i in range(8)]
    boxes += [((95, 95, 99, 99), "very long " * 30, "true")]
    svg, _ = drawn(Picture((100, 100), None, boxes))
    tags = rectangles(svg, "#ffffff")[9:]  # after the light lines under the boxes
    assert len(tags) == 9
    for i, (x, y, w, h) in enumerate(tags):
        assert x >= 0
        assert y >= 0
        assert x + w <= 480.1
        assert y + h <= 480.1
        for X, Y, W, H in tags[:i]:  # numbers are rounded to a tenth
            assert x >= X + W - 0.2 or x + w - 0.2 <= X or y >= Y + H - 0.2 or y + h - 0.2 <= Y
    assert "…</text>" in svg


def test_pictures_are_scaled_down_and_small_drawings_stay_sharp():
    svg, problem = drawn(Picture((600, 1200), encoded(1200, 600)))
    assert (shown(svg).size, shown(svg).format, problem) == ((480, 240), "JPEG", "")
    svg, _ = drawn(Picture((600, 1200), encoded(1200, 600, "PNG")))
    assert (shown(svg).size, shown(svg).format) == ((480, 240), "JPEG")
    svg, _ = drawn(Picture((60, 120), encoded(120, 60, "PNG")))
    assert (shown(svg).size, shown(svg).format) == ((120, 60), "PNG")


def test_a_picture_is_held_as_its_boxes_were_measured():
    # Turned by EXIF orientation 6: stored 120 x 60, held upright 60 x 120, its left side on top.
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(120, 60, exif=exif.tobytes())
    upright, problem = drawn(Picture((120, 60), data))
    assert (shown(upright).size, problem) == ((60, 120), "")
    assert shown(upright).getpixel((30, 10))[0] > 200 > 50 > shown(upright).getpixel((30, 110))[0]
    as_stored, problem = drawn(Picture((60, 120), data))
    assert (shown(as_stored).size, problem) == ((120, 60), "")


def test_bad_and_foreign_pictures_are_told(tmp_path):
    good = encoded(100, 50)
    pictures = [
        Picture((50, 100), good[: len(good) // 2], name="cut"),
        Picture((50, 100), b"no picture"),
        Picture((100, 100), good),
        Picture((50, 100), good),
        Picture((50, 100)),
    ]
    text = written(tmp_path, [Card("a", pictures=pictures)])
    assert "the picture is 100×50, its boxes are of 100×100" in text
    assert "2 of 5 pictures cannot be read" in text
    assert "1 of 5 pictures are missing" in text
    assert "1 of 5 pictures do not have the shape" in text
    assert text.count("<image ") == 2


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Picture((10, 10), None, [((0, 0, 1, 1), "a", "guess")]), "'guess'"),
        (Picture((10, 10), None, [((0, 0, 1, float("nan")), "a", "true")]), "nan"),
        (Picture((10, 10), None, [((0, 0, 1), "a", "true")]), "four numbers"),
        (Picture((0, 10)), r"\(0, 10\)"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(picture, words):
    with pytest.raises(ValueError, match=words):
        report_pictures.draw(picture)
