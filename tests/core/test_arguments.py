"""Wrong arguments of a command line are told with what was expected."""

import argparse

import pytest

from core import arguments


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (arguments.whole(1), {"1": 1, "20": 20}, ("0", "-1", "1.0", "x", "", "9" * 5000)),
        (arguments.whole(0, 5), {"0": 0, "5": 5}, ("6", "1e3")),
        (arguments.number(0), {"0": 0, "1e3": 1000}, ("-0.1", "nan", "inf", "fast")),
        (arguments.some_of(["a", "b"]), {"a": ["a"], "b,a": ["b", "a"]}, ("", "a,c", "a, b")),
        (arguments.wholes(3), {"-1,1,2": (-1, 1, 2)}, ("1,2", "0,1,1", "a,b,c", "-2,1,1", "")),
    ],
)
def test_values(kind, right, wrong):
    assert {text: kind(text) for text in right} == right
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match="expected"):
            kind(text)


def test_a_file_to_write(tmp_path):
    there = tmp_path / "there.json"
    there.touch()
    for path in (tmp_path / "new.json", there):
        assert arguments.to_write(str(path)) == path
    for path in (tmp_path, tmp_path / "no" / "x.json"):
        with pytest.raises(argparse.ArgumentTypeError):
            arguments.to_write(str(path))


def test_packages_that_are_missing(capsys):
    parser = argparse.ArgumentParser()
    arguments.require_packages(parser, "--a", "json", "argparse")
    with pytest.raises(SystemExit):
        arguments.require_packages(parser, "--b", "json", "no_such_package")
    assert "--b needs no_such_package: pip install no_such_package" in capsys.readouterr().err
