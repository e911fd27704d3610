"""The page in a real browser: pointing, clicking, typing, saving."""

import io

import numpy as np
import pytest
from PIL import Image

from inference.look import content, page
from tests.in_chromium import DESK, PHONE, chromium, quiet  # noqa: F401  # fixtures
from tests.inference.look import made_look


@pytest.fixture(scope="module")
def opened(quiet, tmp_path_factory):  # noqa: F811
    """opened(made, viewport) → a page in the browser."""

    def open_page(made, viewport=DESK):
        path = tmp_path_factory.mktemp("pages") / "page.html"
        page.write(path, made)
        return quiet(path, ".token", viewport)

    return open_page


@pytest.fixture
def of_words(opened):
    """A page of two streams whose attention is known: word i looks at region i alone."""
    example = made_look.two_streams()
    words, regions = example.words, example.regions
    example.maps[1].probs[:] = np.eye(words)[:, 1:]
    example.maps[1].probs[:, 0] = 1 / regions
    shown = opened(made_look.page_of(example, picture=made_look.noise_picture((120, 160))))
    yield shown
    shown.close()


def number(shown, kind, i):
    return shown.locator(f"#{kind} .token").nth(i).locator("small").inner_text()


def test_a_word_under_the_pointer_colours_what_it_looks_at(of_words):
    words = of_words.locator("#words .token")
    assert words.count() == 4
    told = of_words.locator("#readout")
    assert "“word1” looks at" in told.inner_text()  # the word that looks most at one region
    words.nth(3).hover()
    assert [number(of_words, "regions", i) for i in range(3)] == ["0%", "0%", "100%"]
    assert "“[SEP]” looks at" in told.inner_text()
    assert "2 thing 1 100%" in told.inner_text()
    strokes = of_words.evaluate(
        "[...document.querySelectorAll('#drawn rect')].map((box) => box.getAttribute('stroke'))"
    )
    assert strokes.count("rgb(253,231,37)") == 1
    of_words.mouse.move(2, 2)
    assert "“word1” looks at" in told.inner_text()


def test_a_click_keeps_a_word_and_escape_lets_it_go(of_words):
    word = of_words.locator("#words .token").nth(3)
    word.click()
    of_words.mouse.move(2, 2)
    assert word.get_attribute("aria-pressed") == "true"
    assert number(of_words, "regions", 2) == "100%"
    of_words.keyboard.press("Escape")
    assert word.get_attribute("aria-pressed") == "false"
    assert "Point at a word" in of_words.locator("#readout").inner_text()


def test_a_click_on_a_region_shows_what_it_looks_at_and_by_whom_it_is_seen(of_words):
    of_words.locator(".hit").last.click(force=True)
    of_words.mouse.move(2, 2)
    token = int(of_words.locator(".hit").last.get_attribute("data-token")) - 4
    button = of_words.locator("#regions .token").nth(token)
    assert button.get_attribute("aria-pressed") == "true"
    assert f"{token} thing {token - 1} looks at" in of_words.locator("#readout").inner_text()
    of_words.locator("#direction").select_option("in")
    assert "is looked at by" in of_words.locator("#readout").inner_text()
    assert number(of_words, "words", token + 1) == "100%"


def test_layers_heads_and_kinds_are_chosen(of_words):
    of_words.locator("#words .token").nth(1).click()
    of_words.locator("#level").fill("0")
    assert of_words.locator("#level-name").inner_text() == "text layer 1"
    assert "no attention with regions" in of_words.locator("#readout").inner_text()
    of_words.locator("#level").fill("1")
    assert of_words.locator("#grid .head").count() == 2 + 3
    of_words.locator("#grid .head", has_text="head 2").click()
    assert of_words.locator("#head").input_value() == "1"
    assert "words look at regions, head 2" in of_words.locator("#readout").inner_text()
    of_words.locator("#kind").select_option("image")
    assert of_words.locator("#grid .head").count() == 2 + 2
    of_words.locator("#head").select_option("rollout")
    assert "rollout up to text layer 2" in of_words.locator("#readout").inner_text()
    cell = of_words.locator("#statistics button").first
    cell.click()
    assert of_words.locator("#level").input_value() == "0"
    assert of_words.locator("#head").input_value() == "0"
    of_words.locator("#statistic").select_option("1")
    assert cell.inner_text() == ".00"
    assert of_words.locator("#states svg").count() == 2


def test_the_keyboard_reaches_everything(of_words):
    of_words.locator("#scale").focus()
    of_words.keyboard.press("Tab")
    focused = "document.activeElement.textContent"
    assert "[CLS]" in of_words.evaluate(focused)  # one stop for all words
    of_words.keyboard.press("ArrowRight")
    assert "word0" in of_words.evaluate(focused)
    assert number(of_words, "regions", 0) == "100%"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert of_words.evaluate(outline) == "solid"
    of_words.keyboard.press("Enter")
    assert of_words.locator("#words .token").nth(1).get_attribute("aria-pressed") == "true"
    of_words.keyboard.press("End")
    assert "[SEP]" in of_words.evaluate(focused)
    of_words.keyboard.press("Tab")
    assert "whole image" in of_words.evaluate(focused)
    of_words.locator("#statistics button").first.focus()
    of_words.keyboard.press("ArrowDown")
    assert of_words.evaluate("document.activeElement.dataset.map") == "1"
    of_words.locator("#level").focus()
    of_words.keyboard.press("ArrowLeft")
    assert of_words.locator("#level-name").inner_text() == "text layer 1"


def test_views_are_saved_as_pictures(of_words):
    sizes = {}
    for name in of_words.locator("#view option").all_inner_texts():
        of_words.locator("#view").select_option(name)
        with of_words.expect_download() as download:
            of_words.locator("#save").click()
        image = Image.open(io.BytesIO(download.value.path().read_bytes()))
        sizes[name] = image.size
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(2**24)) > 20, name
        assert download.value.suggested_filename == f"{name.replace(' ', '-')}.png"
    assert len(sizes) == 5
    assert sizes["picture and words"][0] == 1280


@pytest.mark.parametrize("viewport", [PHONE, DESK])
@pytest.mark.parametrize("made", ["one_stream", "two_streams"])
def test_nothing_runs_off_the_screen(opened, viewport, made):
    example = getattr(made_look, made)(words=30, regions=37)
    shown = opened(made_look.page_of(example), viewport)
    assert shown.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    shown.close()


def test_texts_of_others_are_shown_as_they_are(opened):
    texts = made_look.HOSTILE
    example = made_look.one_stream(words=len(texts), regions=len(texts) + 1)
    shown = opened(
        made_look.page_of(example, title=texts[0], pieces=texts, labels=list(texts), notes=texts)
    )
    assert shown.title() == texts[0]
    assert shown.locator("h1").inner_text() == texts[0]
    found = shown.evaluate("[...document.querySelectorAll('.token')].map((b) => b.firstChild.data)")
    expected = [text.encode("utf-8", "replace").decode() for text in texts[:4]]
    assert found[:4] == expected
    assert found[7:11] == [f"{i} {text}".strip() for i, text in enumerate(expected, start=1)]
    assert shown.locator("script").count() == 2
    assert shown.locator("#notes *").count() == len(texts) + 1  # and that there is no picture
    assert shown.locator("img").count() == 0
    shown.close()


def test_a_store_without_a_model(opened):
    shown = opened(content.page("image 7", ["2 regions"], [], made_look.regions_of(2)), PHONE)
    assert shown.locator("#regions .token").count() == 3
    assert not shown.locator("#panels").is_visible()
    assert not shown.locator("#controls").is_visible()
    shown.locator("#regions .token").nth(1).click()
    assert "1 thing 0, probability 50%" in shown.locator("#readout").inner_text()
    with shown.expect_download() as download:
        shown.locator("#save").click()
    assert download.value.suggested_filename == "picture.png"
    shown.close()


def test_a_browser_that_is_too_old_is_told(chromium, tmp_path):  # noqa: F811
    page.write(tmp_path / "page.html", made_look.page_of(made_look.one_stream()))
    shown = chromium.new_page()
    shown.add_init_script("delete window.DecompressionStream")
    shown.goto((tmp_path / "page.html").as_uri())
    note = shown.locator(".note", has_text="This browser cannot draw the page")
    note.wait_for()
    assert "DecompressionStream is not defined" in note.inner_text()
    shown.close()
