"""Canvases, sizes that pictures of a batch are padded to: a program each on the device."""

from typing import NamedTuple

from ml_collections import ConfigDict


class Canvas(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


USUAL = (Canvas(600, 1000),)


def planned(options: ConfigDict) -> tuple[Canvas, ...]:
    """The canvases that a stream's options give, from small to large.

    The last one holds whatever fits any other. Where they say nothing, USUAL: it is for the
    pictures to say.
    """
    given = tuple(Canvas(*one) for one in options.get("canvases", ()))
    if not given and options.resize:
        short, long = options.resize
        given = Canvas(short, long), Canvas(long, short)
    return _ordered(given or USUAL)


def _ordered(given: tuple[Canvas, ...]) -> tuple[Canvas, ...]:
    """From small to large, with one that holds whatever fits any other."""
    given += (Canvas(max(one.height for one in given), max(one.width for one in given)),)
    return tuple(sorted(set(given), key=lambda one: (one.height * one.width, one)))
