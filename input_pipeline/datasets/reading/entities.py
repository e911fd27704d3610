"""The files of Flickr30k Entities: sentences with marked phrases, and boxes of what they name.

Sentences/<image>.txt     a sentence a line: [/EN#1/people A girl] sits on [/EN#4/scene a ledge] .
Annotations/<image>.xml   size of the picture; objects, each with one number or several in <name>
                          and either a <bndbox> or the flags <scene> and <nobndbox>
"""

import bisect
import pathlib
import re
from typing import NamedTuple
from xml.etree import ElementTree

from core.errors import DataError
from core.messages import brief
from input_pipeline.datasets.reading import entries
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.records import Box

DOWNLOAD = "unpack annotations.zip of https://github.com/BryanPlummer/flickr30k_entities"
NOT_VISUAL = "0"  # number of all phrases that name nothing in the picture
MAX_XML = 2**22  # characters; the longest real files have some thousands
_PHRASE = re.compile(r"\[/EN#([0-9]{1,30})(?:/[^\s/\]]+)+ ([^\]]*)\]")
_WORD = re.compile(r"\S+")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Phrase(NamedTuple):
    """Characters start to end of a sentence, and the number of what they name; see `sentence`."""

    start: int
    end: int
    number: str


def folder_of(folder: str, name: str) -> pathlib.Path:
    """Where the files of all images are: `name`, or the same in lower case."""
    lower = pathlib.Path(folder, name.lower())
    return lower if lower.is_dir() else pathlib.Path(folder, name)


def sentence_files(folder: str, split: str = "") -> list[str]:
    """The sentences of all images, by their numbers; of a split: <split>.txt, and those in it.

    Raises:
      DataError: one is missing, a line of the list is no number, an image is in it twice.
    """
    sentences = folder_of(folder, "Sentences")
    if not split:
        texts = [path for path in sentences.glob("*.txt") if path.stem.isdecimal()]
        if texts:
            return [str(path) for path in sorted(texts, key=lambda path: int(path.stem))]
        return [
            official_files.locate(sentences, "<image>.txt", fix=DOWNLOAD)
        ]  # says what is missing
    fix = "get the list from https://github.com/BryanPlummer/flickr30k_entities"
    listed = official_files.locate(folder, f"{split}.txt", fix=fix)
    unique, names = entries.Unique("image"), []
    for line, text in official_files.lines(listed):
        where = f"{listed}:{line}"
        unique.add(entries.number(text.strip(), where, "image"), where)
        names.append(text.strip())
    texts = [official_files.locate(sentences, f"{name}.txt", fix=DOWNLOAD) for name in names]
    return [listed, *texts]


def sentence(text: str, where: str) -> tuple[str, list[Phrase]]:
    """A sentence without its marks and with single spaces, and the phrases that were marked.

    A phrase of white space alone has start = end.

    Raises:
      DataError: a mark that is none, or nothing but marks.
    """
    parts, spans, done, size = [], [], 0, 0
    for match in _PHRASE.finditer(text):
        parts += [text[done : match.start()], match[2]]
        size += len(parts[-2])
        spans.append((size, size + len(match[2]), match[1]))
        size, done = size + len(match[2]), match.end()
    plain = "".join([*parts, text[done:]])
    if "[/EN#" in plain:
        raise DataError(
            "a marked phrase is malformed",
            where=where,
            expected="[/EN#<number>/<type> words]",
            found=repr(plain[plain.index("[/EN#") :][:60]),
            fix="get the file again",
        )
    clean = entries.need_text(plain, where, "caption")
    words = [match.span() for match in _WORD.finditer(plain)]
    starts, shift, at = [start for start, _ in words], [], 0
    for start, end in words:  # how far each word moves to the left
        shift.append(start - at)
        at += end - start + 1

    def moved(position: int) -> int:
        return position - shift[bisect.bisect_right(starts, position) - 1]

    phrases = []
    for start, end, number in spans:
        inside = plain[start:end]
        if inside.strip():
            first = start + len(inside) - len(inside.lstrip())
            last = start + len(inside.rstrip()) - 1
            phrases.append(Phrase(moved(first), moved(last) + 1, number.lstrip("0") or NOT_VISUAL))
        else:
            phrases.append(Phrase(0, 0, number))
    return clean, phrases


def boxes(path: str) -> dict[str, Box | None]:
    """{number: the box around everything that has it, None where nothing is boxed}.

    Several boxes of one number (each of "two girls") become the one around all of them, as in the
    publishers' own evaluation. Pixels are counted from 1 in the file and from 0 here, the last one
    is inside; what reaches over the edge of the picture is cut.

    Raises:
      DataError: not readable, not the XML above, a box that ends before it starts or is outside of
        the picture.
    """
    root = _parse(path)
    width, height = (_whole(root, f"size/{side}", path, least=1) for side in ("width", "height"))
    found: dict[str, Box | None] = {}
    for i, item in enumerate(root.findall("object")):
        where = f"{path}, object {i}"
        names = [entries.number((n.text or "").strip(), where, "name")
                 for n in item.findall("name")]  # fmt: skip
        if not names:
            raise _malformed(where, "a <name>", "none")
        box = _box(item, width, height, where)
        for name in names:
            found[name] = _around(found.get(name), box)
    return found


def _parse(path: str) -> ElementTree.Element:
    with official_files.opened(path) as file:
        raw = file.read(MAX_XML + 1)
    text = official_files.decode(raw, path)
    if len(raw) > MAX_XML or "<!" in text.replace("<!--", ""):
        # What a document type declares may grow without end; the published files have none.
        found = f"more than {MAX_XML:,} bytes" if len(raw) > MAX_XML else "a declaration (<!...)"
        raise _malformed(path, "a short XML file of elements alone", found)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise _malformed(path, "XML", str(error)) from error
    if root.tag != "annotation":
        raise _malformed(path, "<annotation>", brief(f"<{root.tag}>", 40))
    return root


def _box(item: ElementTree.Element, width: int, height: int, where: str) -> Box | None:
    if item.find("bndbox") is None:
        flags = [_whole(item, flag, where, least=0) for flag in ("scene", "nobndbox")]
        if not any(flags):
            raise _malformed(where, "<bndbox>, or <scene> or <nobndbox> that is 1", "neither")
        return None
    x1, y1, x2, y2 = (_whole(item, f"bndbox/{corner}", where) - 1 for corner in _CORNERS)
    cut = (max(x1, 0), max(y1, 0), min(x2, width - 1), min(y2, height - 1))
    if x2 < x1 or y2 < y1 or cut[2] < cut[0] or cut[3] < cut[1]:
        raise DataError(
            "a box is no part of its picture",
            where=where,
            expected=f"xmin <= xmax and ymin <= ymax, in a picture of {width} x {height}",
            found=f"{' '.join(_CORNERS)}: {x1 + 1} {y1 + 1} {x2 + 1} {y2 + 1}",
            fix=DOWNLOAD,
        )
    return tuple(map(float, cut))  # type: ignore[return-value]


def _around(one: Box | None, other: Box | None) -> Box | None:
    if one is None or other is None:
        return one or other
    return (*map(min, one[:2], other[:2]), *map(max, one[2:], other[2:]))  # type: ignore[return-value]


def _whole(item: ElementTree.Element, path: str, where: str, least: int | None = None) -> int:
    """The whole number at a path of tags."""
    text = (item.findtext(path) or "").strip()
    if not re.fullmatch(r"-?[0-9]{1,9}", text) or (least is not None and int(text) < least):
        wanted = "a whole number" + ("" if least is None else f" of {least} or more")
        raise _malformed(where, f"<{path.replace('/', '><')}>, {wanted}", brief(text, 40))
    return int(text)


def _malformed(where: str, expected: str, found: str) -> DataError:
    return DataError(
        "annotations of an image are malformed",
        where=where,
        expected=expected,
        found=found,
        fix=DOWNLOAD,
    )
