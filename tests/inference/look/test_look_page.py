"""The page as a file: its size, and that texts of others stay texts."""

import html.parser
import json
import re

import pytest

from evaluation.report import static_page
from inference.look import page
from tests.inference.look import made_look


class Parsed(html.parser.HTMLParser):
    """Tags in order, and what is in each script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self._inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(attrs)))
        if tag == "script":
            self.scripts.append("")
            self._inside = True

    def handle_endtag(self, tag):
        self._inside = self._inside and tag != "script"

    def handle_data(self, data):
        if self._inside:
            self.scripts[-1] += data


@pytest.mark.parametrize("text", made_look.HOSTILE)
def test_texts_change_nothing_of_a_page_but_its_data(text):
    example = made_look.one_stream()
    pieces = ["[CLS]", text, f"##{text}", "[SEP]"]
    plain = Parsed(page.html(made_look.page_of(example)))
    taken = made_look.page_of(example, title=text, pieces=pieces, labels=[text] * 2, notes=[text])
    found = Parsed(page.html(taken))
    assert found.tags == plain.tags
    assert found.scripts[1] == plain.scripts[1]
    data = json.loads(found.scripts[0])
    assert data == json.loads(json.dumps(taken))
    assert data["title"] == text
    assert data["tokens"][1]["text"] == text


def test_the_policy_names_the_scripts_hash_and_loads_nothing():
    text = page.html(made_look.page_of(made_look.one_stream()))
    policy = re.search('Content-Security-Policy" content="([^"]*)"', text)[1]
    script = text[text.rindex("<script>") + 8 : text.rindex("</script>")]
    assert f"script-src '{static_page.hash_of(script)}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"(src|href)=\"?https?:", text)
    assert "url(" not in text


@pytest.mark.parametrize(("words", "regions"), [(24, 37), (38, 101)])
def test_an_example_of_base_size_is_under_three_megabytes(tmp_path, words, regions):
    picture = made_look.noise_picture()
    example = made_look.one_stream(words, regions, layers=12, heads=12)
    content = made_look.page_of(example, picture=picture)
    assert content["picture"]["uri"].startswith("data:image/jpeg")
    path = tmp_path / "page.html"
    size = page.write(path, content)
    assert size == path.stat().st_size < 3e6
