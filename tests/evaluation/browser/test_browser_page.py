"""The page of predictions as a file: what it holds, what it refuses, the command that compares."""

import pytest

from core.errors import DataError
from evaluation.browser import page
from evaluation.browser.__main__ import main
from evaluation.report import static_page
from inference.look import page as look
from tests.evaluation.browser import made_pages
from tests.inference.look import made_look
from tests.inference.look.test_look_page import Parsed


def hostile(text):
    answer = made_pages.answer(
        text, False, lines=[(text, text)], boxes=[(0, 0, 9, 9, text, "true")]
    )
    rows = [
        made_pages.example(text, answer, text=text, true=text, groups={text: text},
                           images=[[text, 9, 9]])
    ]  # fmt: skip
    return made_pages.content(rows, name=text, title=text, notes=[text], place=text)


@pytest.mark.parametrize("text", made_look.HOSTILE)
def test_texts_change_nothing_of_a_page_but_its_data(text, tmp_path):
    plain = Parsed(page.html(made_pages.content(made_pages.questions(1))))
    found = Parsed(page.html(hostile(text)))
    assert found.tags == plain.tags
    assert found.scripts[1] == plain.scripts[1]
    page.write(tmp_path / "page.html", hostile(text))
    read = page.read(tmp_path / "page.html")
    assert read == hostile(text)
    (one,) = page.examples_of(read)
    assert (one["id"], one["text"], one["groups"]) == (text, text, {text: text})


def test_the_policy_names_the_scripts_hash_and_loads_nothing():
    text = page.html(made_pages.content(made_pages.questions(2)))
    script = text[text.rindex("<script>") + 8 : text.rindex("</script>")]
    assert f"script-src '{static_page.hash_of(script)}'" in text
    assert "default-src 'none'; img-src data: blob:" in text
    assert "url(" not in text


def test_ten_thousand_predictions_are_a_small_page(tmp_path):
    size = page.write(tmp_path / "page.html", made_pages.content(made_pages.questions(10_000)))
    assert size < 1.5e6


def test_two_pages_compared():
    a, b = made_pages.questions(300), made_pages.questions(290, seed=1, skill=0.9)
    made = page.compared(made_pages.content(a), made_pages.content(b), ["a", "b"])
    examples = page.examples_of(made)
    assert [one["id"] for one in examples] == [one["id"] for one in b]
    assert [one["answers"][1] for one in examples] == [one["answers"][0] for one in b]
    right = [tuple(answer["right"] for answer in one["answers"]) for one in examples]
    assert made["mcnemar"]["second"] == right.count((False, True)) > 50
    assert made["mcnemar"]["p"] < 1e-3
    assert any("10 predictions that only one" in note for note in made["notes"])
    with pytest.raises(DataError, match="compares runs already"):
        page.compared(made, made, ["a", "b"])


def test_what_cannot_be_compared(tmp_path):
    mine = made_pages.content(made_pages.questions(3))
    other = made_pages.questions(3)
    other[1]["true"] = "purple"
    with pytest.raises(DataError, match=r"example 'question-1', its true(.|\n)*found: purple"):
        page.compared(mine, made_pages.content(other), ["a", "b"])
    for one in other:
        one["id"] += "-else"
    with pytest.raises(DataError, match="no example in common"):
        page.compared(mine, made_pages.content(other), ["a", "b"])
    unknown = [made_pages.example("q", made_pages.answer("red", None), true="")]
    found = page.compared(*[made_pages.content(unknown)] * 2, ["a", "b"])
    assert found["mcnemar"] is None
    look.write(tmp_path / "look.html", made_look.page_of(made_look.one_stream()))
    with pytest.raises(DataError, match="no predictions"):
        page.read(tmp_path / "look.html")
    (tmp_path / "other.html").write_text("<html></html>")
    with pytest.raises(DataError, match="no page of this project"):
        page.read(tmp_path / "other.html")
    with pytest.raises(DataError, match="cannot be read"):
        page.read(tmp_path / "none.html")


def test_the_command_line(tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 1)):
        made = made_pages.content(made_pages.questions(50, seed=seed), name="vqa")
        page.write(tmp_path / name / "report" / "predict-val.html", made)
    runs, out = [str(tmp_path / "a"), str(tmp_path / "b")], f"--out={tmp_path / 'made.html'}"
    assert main([*runs, out]) == 0
    told = capsys.readouterr()
    assert "McNemar's test (exact binomial): p = " in told.out + told.err
    assert page.read(tmp_path / "made.html")["runs"] == runs  # runs of one name go by their places
    page.write(tmp_path / "a" / "report" / "predict-test.html", made)
    assert main([*runs, out]) == 1
    assert "name one: --split=SPLIT" in capsys.readouterr().err
    assert main([*runs, "--split=val", out]) == 0
    assert main([str(tmp_path / "a" / "report" / "predict-val.html"), runs[1], out]) == 0
    assert main([str(tmp_path / "c"), runs[1], out]) == 1
    assert f"--workdir={tmp_path / 'c'} --mode=predict" in capsys.readouterr().err
