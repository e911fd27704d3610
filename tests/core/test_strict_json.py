"""JSON: what the standard has is read, everything else is an error of one type, in one line."""

import io
import json

import pytest

from core.strict_json import JSONError, parse, parse_items

BAD = {
    "nan": '{"a": NaN}',
    "infinity": "[-Infinity]",
    "half a pair": r'["\ud83d"]',
    "half a pair as a character": '["\ud83d"]',
    "digits": "7" * 5000,
    "nested": "[" * 100_000,
    "cut": '{"a": ',
    "no utf-8": b'["\xff"]',
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_no_file_means_is_one_error_of_one_short_line(text):
    with pytest.raises(JSONError) as caught:
        parse(text)
    assert 0 < len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


def test_a_number_that_is_none_is_found_outside_of_strings():
    with pytest.raises(JSONError, match="NaN is no number of JSON, at line 2 column 6"):
        parse('{"NaN Infinity \\" NaN": 1,\n"a": NaN}')


def test_values_are_read_as_they_are():
    assert parse(b'\xef\xbb\xbf{"a": [1, -2.5, true, null]}') == {"a": [1, -2.5, True, None]}
    assert parse(r'["\ud83d\ude00 \u2028"]') == ["\U0001f600 \u2028"]


def items(text, piece, most=1000):
    file = io.StringIO(text)
    return list(parse_items(lambda: file.read(piece), most))


LIST = [
    123,
    4.5e6,
    1e-7,
    -1,
    True,
    None,
    'a\\"][{,',
    {"a": [1, {"b": "x]}"}]},
    [],
    {},
    "\U0001f600",
]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
def test_a_list_is_read_item_by_item_wherever_its_pieces_end(piece):
    for escaped in (True, False):
        for made in ([], LIST[:1], LIST, [LIST, "é"]):
            text = f" {json.dumps(made, indent=1, ensure_ascii=escaped)}\r\n\t"
            assert items(text, piece) == made


BAD_LISTS = {
    "": "no list",
    '{"a": [1]}': "no list: .{",
    "[1, ": "Expecting value",
    "[1,]": "Expecting value '",
    "[,1]": "Expecting value ',1",
    "[1 2]": "no comma and no end of the list after an item: '2",
    "[1": "no comma and no end",
    "[1ex]": "no comma and no end",
    "[1] [2]": r"more after the end of the list: '\[2",
    "[1, NaN]": "NaN is no number",
    r'["\ud83d"]': "half of a surrogate pair",
    '["a': "Unterminated string",
    "[" * 100_000: "nested too deeply|more than 1,000 characters",
    "[" + "7" * 5000 + "]": "limit|more than 1,000 characters",
    '["' + "x" * 5000 + '"]': "more than 1,000 characters",
}


@pytest.mark.parametrize("piece", [2, 1000])
@pytest.mark.parametrize("text", BAD_LISTS, ids=lambda text: text[:8])
def test_a_list_that_is_none_is_one_error(text, piece):
    with pytest.raises(JSONError, match=BAD_LISTS[text]) as caught:
        items(text, piece)
    assert len(str(caught.value)) < 400


def test_items_before_a_bad_one_are_given():
    text, found = iter(["[1, 2, x]", ""]), []
    with pytest.raises(JSONError, match=r"Expecting value.*x"):
        found.extend(parse_items(lambda: next(text), 100))  # extends as it goes
    assert found == [1, 2]
