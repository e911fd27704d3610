"""The page of predictions in a real browser: filters, search, paging, keyboard, hostile texts."""

import pytest

from evaluation.browser import page
from tests.evaluation.browser import made_pages
from tests.in_chromium import DESK, PHONE, chromium, quiet  # noqa: F401  # fixtures
from tests.inference.look.made_look import HOSTILE

COUNT = 1100


@pytest.fixture(scope="module")
def opened(quiet, tmp_path_factory):  # noqa: F811
    def open_page(made, viewport=DESK):
        path = tmp_path_factory.mktemp("pages") / "page.html"
        page.write(path, made)
        return quiet(path, "#rows tr", viewport)

    return open_page


@pytest.fixture(scope="module")
def questions():
    return made_pages.questions(COUNT)


@pytest.fixture(scope="module")
def of_questions(opened, questions):
    shown = opened(made_pages.content(questions))
    yield shown
    shown.close()


@pytest.fixture
def shown(of_questions):
    of_questions.locator("#reset").click()
    return of_questions


def texts(shown):
    return shown.locator("#rows td.text button").all_inner_texts()


def place(shown):
    return shown.locator("#place").inner_text()


def expected(questions, test):
    found = [one for one in questions if test(one, one["answers"][0])]
    return f"1–{min(25, len(found))} of {len(found):,}", [one["text"] for one in found[:25]]


def test_thousands_are_paged(shown, questions):
    assert place(shown) == "1–25 of 1,100"
    assert texts(shown) == [one["text"] for one in questions[:25]]
    assert shown.locator("#before").is_disabled()
    shown.locator("#after").click()
    assert place(shown) == "26–50 of 1,100"
    assert texts(shown)[0] == "what is thing 25 like?"
    shown.locator("#size").select_option("200")
    assert place(shown) == "1–200 of 1,100"
    for _ in range(5):
        shown.locator("#after").click()
    assert place(shown) == "1,001–1,100 of 1,100"
    assert shown.locator("#after").is_disabled()
    shown.locator("#size").select_option("25")


def test_filters_by_verdict_type_and_confidence(shown, questions):
    shown.locator("#verdict").select_option("wrong")
    wrong = expected(questions, lambda one, answer: not answer["right"])
    assert (place(shown), texts(shown)) == wrong
    shown.locator("select[data-group='type of answer']").select_option("yes/no")
    both = expected(
        questions,
        lambda one, answer: not answer["right"] and one["groups"]["type of answer"] == "yes/no",
    )
    assert (place(shown), texts(shown)) == both
    shown.locator("#low").fill("30")
    shown.locator("#high").fill("50")
    assert (place(shown), texts(shown)) == expected(
        questions,
        lambda one, answer: (
            not answer["right"]
            and one["groups"]["type of answer"] == "yes/no"
            and 0.3 <= answer["confidence"] <= 0.5
        ),
    )
    # Accuracies are of all that the other filters leave, right and wrong.
    left = [
        one["answers"][0]["right"]
        for one in questions
        if one["groups"]["type of answer"] == "yes/no"
        and 0.3 <= one["answers"][0]["confidence"] <= 0.5
    ]
    share = f"accuracy {100 * sum(left) / len(left):.1f} % of {len(left)}"
    assert share in shown.locator("#summary").inner_text()
    shown.locator("#chosen button").click()
    assert shown.locator("#chosen button").count() == 0


def test_search_looks_into_texts_answers_and_ids(shown):
    shown.locator("#search").fill("THING 1034 like")
    assert texts(shown) == ["what is thing 1034 like?"]
    shown.locator("#search").fill("question-77")
    assert len(texts(shown)) == 11  # 77 and 770 to 779
    shown.locator("#search").fill("nothing of the kind")
    assert place(shown) == "none"
    assert shown.locator("#after").is_disabled()


def test_sorting_by_loss_and_confidence(shown, questions):
    for value, key, turn in (("loss", "loss", -1), ("unsure", "confidence", 1)):
        shown.locator("#sort").select_option(value)
        ordered = sorted(questions, key=lambda one: turn * one["answers"][0][key])
        assert texts(shown) == [one["text"] for one in ordered[:25]]


def test_charts_and_confusion_choose_examples(shown, questions):
    bars = shown.locator("[data-chart='type of answer'] .bar")
    assert bars.count() == 3
    kind, told = bars.nth(1).locator("span").first, bars.nth(1).locator("span").last
    name = kind.inner_text()
    part = [one for one in questions if one["groups"]["type of answer"] == name]
    right = sum(one["answers"][0]["right"] for one in part)
    assert told.inner_text() == f"{100 * right / len(part):.1f} % of {len(part):,}"
    bars.nth(1).click()
    assert place(shown).endswith(f"of {len(part):,}")
    assert bars.count() == 3  # the others can still be chosen
    bars.nth(1).click()  # again: no longer chosen
    assert place(shown).endswith("of 1,100")
    regions = shown.locator("[data-chart='number of regions'] .bar > span:first-child")
    assert regions.first.inner_text().startswith("2–")
    assert regions.last.inner_text().endswith("–30")
    cell = shown.locator('#matrix .cell[data-pair*=\'["red","green"]\']')
    pairs = [
        one
        for one in questions
        if (one["true"], one["answers"][0]["predicted"]) == ("red", "green")
    ]
    assert cell.inner_text() == str(len(pairs))
    cell.click()
    assert (place(shown), texts(shown)) == expected(pairs, lambda one, answer: True)
    cell.click()
    most = shown.locator("#confused button").first
    most.click()
    assert most.get_attribute("aria-pressed") == "true"
    a, b = most.inner_text().rpartition(" (")[0].split(" → ")
    assert (
        place(shown)
        == expected(questions, lambda one, answer: (one["true"], answer["predicted"]) == (a, b))[0]
    )


def test_one_click_opens_an_example_and_keys_move_on(shown):
    shown.locator("#rows tr").nth(3).click()
    dialog = shown.locator("#example")
    assert shown.locator("#example-title").inner_text() == "what is thing 3 like?"
    assert "question-3 · image image-1" in shown.locator("#example-id").inner_text()
    assert dialog.locator("#example-pictures rect").count() == 4  # two boxes with their edges
    assert "predicted box" in dialog.locator("#example-legend").inner_text()
    command = (
        "python -m inference runs/a look --example=question-3 --task=examples "
        "--split=validation --out=attention.html"
    )
    assert dialog.locator("code").inner_text() == command
    shown.keyboard.press("ArrowRight")
    assert shown.locator("#example-title").inner_text() == "what is thing 4 like?"
    for _ in range(30):
        shown.keyboard.press("ArrowRight")
    shown.keyboard.press("Escape")
    assert not dialog.is_visible()
    shown.locator("#place", has_text="26–50 of 1,100").wait_for()  # the list follows
    assert shown.evaluate("document.activeElement.textContent") == "what is thing 34 like?"


def test_the_keyboard_reaches_everything(shown):
    shown.locator("#size").focus()
    shown.keyboard.press("Tab")
    focused = "document.activeElement.textContent"
    assert shown.evaluate(focused) == "what is thing 0 like?"
    shown.keyboard.press("ArrowDown")
    assert shown.evaluate(focused) == "what is thing 1 like?"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert shown.evaluate(outline) == "solid"
    shown.keyboard.press("Enter")
    assert shown.locator("#example").is_visible()
    shown.keyboard.press("Escape")
    assert shown.evaluate(focused) == "what is thing 1 like?"
    shown.keyboard.press("Tab")  # one stop for the list, one for each chart
    assert shown.evaluate("document.activeElement.matches('.bar')")
    shown.keyboard.press("Enter")
    assert shown.locator("#chosen button").count() == 1
    assert shown.evaluate("document.activeElement.matches('.bar[aria-pressed=true]')")


@pytest.fixture(scope="module")
def of_two(opened, questions):
    other = made_pages.content(made_pages.questions(COUNT, seed=1, skill=0.7), name="other")
    shown = opened(page.compared(made_pages.content(questions), other, ["run", "other"]))
    yield shown
    shown.close()


def test_two_runs_are_compared(of_two, questions):
    others = made_pages.questions(COUNT, seed=1, skill=0.7)
    pairs = [
        (a["answers"][0]["right"], b["answers"][0]["right"])
        for a, b in zip(questions, others, strict=True)
    ]
    for name, pair in dict(both=(1, 1), first=(1, 0), second=(0, 1), neither=(0, 0)).items():
        assert of_two.locator(f"#{name}").inner_text() == f"{pairs.count(pair):,}"
        of_two.locator("#verdict").select_option(name)
        assert place(of_two).endswith(f"of {pairs.count(pair):,}")
    told = of_two.locator("#test").inner_text()
    assert f"run is right on {pairs.count((1, 0))} of them, other on {pairs.count((0, 1))}" in told
    assert "p = " in told
    of_two.locator("#verdict").select_option("second")
    marks = of_two.locator("#rows tr").first.locator("td.mark").all_inner_texts()
    assert marks == ["✗ wrong", "✓ right"]
    of_two.locator("#run").select_option("1")
    of_two.locator("#sort").select_option("sure")
    best = max(
        b["answers"][0]["confidence"]
        for (a, right), b in zip(pairs, others, strict=True)
        if right and not a
    )
    first = of_two.locator("#rows tr").first
    assert first.locator("td.number").first.inner_text() == f"{100 * best:.1f} %"
    first.click()
    assert of_two.locator("#example-answers h3").all_inner_texts() == ["run", "other"]
    of_two.keyboard.press("Escape")


@pytest.mark.parametrize("viewport", [PHONE, DESK, dict(width=1100, height=700)])
@pytest.mark.parametrize("count", [1, 2])
def test_nothing_runs_off_the_screen(opened, viewport, count):
    rows = made_pages.questions(40)
    rows[0]["text"] = "w" * 300
    rows[1]["answers"][0]["predicted"] = "p" * 300
    rows[2]["groups"]["type of answer"] = "k" * 300
    rows[3]["true"] = "t" * 300
    made = made_pages.content(rows)
    if count > 1:
        made = page.compared(made, made, ["n" * 200, "b"])
    shown = opened(made, viewport)
    for place in ("#list", "#figures", "#confusion"):
        over = "(place) => place.scrollWidth - place.clientWidth"
        assert shown.locator(place).evaluate(over) <= 0, place
    assert shown.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    shown.locator("#rows tr").first.click()
    dialog = shown.locator("#example")
    assert dialog.evaluate("(dialog) => dialog.scrollWidth - dialog.clientWidth") <= 0
    shown.close()


def test_texts_of_others_are_shown_as_they_are(opened):
    rows = [
        made_pages.example(
            text,
            made_pages.answer(
                text, False, lines=[(text, text)], boxes=[(1, 2, 30, 40, text, "mentioned")]
            ),
            text=text, true=f"{text} ", groups={text: text, "__proto__": text},
            images=[[text, 50, 50]],
        )
        for text in HOSTILE
    ]  # fmt: skip
    shown = opened(made_pages.content(rows, name=HOSTILE[0], title=HOSTILE[0], notes=HOSTILE,
                                      place=HOSTILE[2]))  # fmt: skip
    assert shown.title() == HOSTILE[0]
    found = shown.evaluate(
        "[...document.querySelectorAll('#rows button')].map((b) => b.firstChild.data)"
    )
    known = [text.encode("utf-8", "replace").decode() for text in HOSTILE]
    assert found[:4] == known[:4]
    assert shown.locator("#notes *").count() == len(HOSTILE) + 1  # and that there are no pictures
    shown.locator("#rows tr").nth(2).click()
    assert shown.locator("#example-title").inner_text() == HOSTILE[2]
    assert shown.locator("#example svg text").first.text_content() == HOSTILE[2]
    words = shown.locator("#example code").inner_text()
    quoted = HOSTILE[2].replace("'", "'\\''")
    assert words == (
        f"python -m inference '{quoted}' look '--example={quoted}' --task=examples "
        "--split=validation --out=attention.html"
    )
    assert shown.locator("script").count() == 2
    assert shown.locator("img").count() == 0
    shown.close()


def test_pictures_and_attention(opened, tmp_path):
    uri = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    made = made_pages.content(made_pages.questions(3), pictures={"image-0": uri})
    made["attention"] = {"examples\nquestion-0": [["attention", "attention/1.html"]]}
    shown = opened(made)
    assert shown.locator("#notes *").count() == 0
    shown.locator("#rows tr").first.click()
    assert shown.locator("#example image").get_attribute("href") == uri
    link = shown.locator("#example-attention a")
    assert link.evaluate("(a) => a.href").endswith("/attention/1.html")
    shown.close()


def test_truth_that_is_unknown(opened):
    rows = [
        made_pages.example(f"q{i}", made_pages.answer("red", None, loss=None), true="")
        for i in range(3)
    ]
    shown = opened(made_pages.content(rows), PHONE)
    assert "no labels" in shown.locator("#summary").inner_text()
    assert shown.locator("#rows .mark").first.inner_text() == "? unknown"
    assert not shown.locator("#confusion").is_visible()
    assert shown.locator("#charts section").count() == 0
    shown.close()
