"""JSON: what the standard has is read, everything else is an error of one type, in one line."""

import pytest

from core.strict_json import JSONError, parse

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
