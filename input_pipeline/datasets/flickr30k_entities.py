"""Flickr30k Entities: captions of Flickr30k whose phrases have boxes (Plummer et al., 2015).

Files, from https://github.com/BryanPlummer/flickr30k_entities (annotations.zip, 29 MB, and three
lists), in data.manual_dir:

  Sentences/<image>.txt     five captions each of 31,783 images, their phrases marked and numbered
  Annotations/<image>.xml   what the numbers are: boxes, the whole scene, or nothing to be seen
  train.txt val.txt test.txt    images of each split: 29,783, 1,000 and 1,000; `full` is all images
  results_20130124.token    may be there: Flickr30k's own captions, with which the sentences are
                            compared: letters and digits, image by image

A phrase names one box: where it has several ("two girls"), the one around all of them, as in the
publishers' evaluation. Training on one of several would teach that the others are wrong, and a box
around all that no region shows is no target at all. Phrases without a box (the scene, what cannot
be seen, number 0) are plain words. `reading.entities` has the details of both formats.

Image and caption ids are those of `flickr30k`. With on_missing="skip" captions of images without
annotations, and those with a phrase that the annotations do not know, are left out.
"""

import functools
import pathlib
from collections.abc import Iterator

from core.errors import DataError
from input_pipeline.datasets import flickr30k
from input_pipeline.datasets.reading import entities, entries, official
from input_pipeline.datasets.reading import files as official_files
from input_pipeline.datasets.reading.builder import declare
from input_pipeline.datasets.records import Box, GroundedCaption, Mention
from input_pipeline.texts.rows import Skipped

SPLITS = ("train", "val", "test", "full")
OPTIONS = ("on_missing",)
SKIP = "or leave such captions out: --config.data.on_missing=skip"
image_name = flickr30k.image_name


def files(folder: str, split: str, *, on_missing: str = "error") -> list[str]:
    """The files of a split: its list, sentences, annotations, and Flickr30k's captions if there.

    Raises:
      DataError: a file is missing; with on_missing="skip" annotations of images may be.
    """
    sentences = entities.sentence_files(folder, "" if split == "full" else split)
    found = [_annotations(folder, path, on_missing) for path in sentences if _is_sentence(path)]
    return [*sentences, *filter(None, found), *_captions_file(folder)]


def records(
    folder: str, split: str, *, on_missing: str = "error"
) -> Iterator[GroundedCaption | Skipped]:
    """The captions of a split, in the order of its list, or by image number.

    Raises:
      DataError: naming file and line or object: a missing file; a malformed mark; annotations
        that are malformed; a phrase that they do not know; captions that are not Flickr30k's.
    """
    paths = entities.sentence_files(folder, "" if split == "full" else split)
    captions = _captions(folder)
    for path in filter(_is_sentence, paths):
        image_id = entries.number(pathlib.Path(path).stem, path, "image")
        sentences = [
            (f"{path}:{line}", *entities.sentence(text, f"{path}:{line}"))
            for line, text in official_files.lines(path)
        ]
        if captions is not None:
            _compare([text for _, text, _ in sentences], captions.get(image_id, []), path)
        annotations = _annotations(folder, path, on_missing)
        boxes = entities.boxes(annotations) if annotations else {}
        for k, (where, text, phrases) in enumerate(sentences):
            text_id = f"{image_id}#{k}"
            unknown = [p for p in phrases if p.number not in (entities.NOT_VISUAL, *boxes)]
            if not annotations:
                yield Skipped(f"{text_id} ({where})", "no annotations")
            elif unknown and on_missing == "skip":
                yield Skipped(f"{text_id} ({where})", "a phrase without annotation")
            elif unknown:
                raise DataError(
                    "a phrase is not annotated",
                    where=where,
                    expected=f"its number in {annotations}",
                    found=f"{unknown[0].number}, of {text[unknown[0].start : unknown[0].end]!r}",
                    fix=f"{entities.DOWNLOAD}, {SKIP}",
                )
            else:
                yield _grounded(text_id, image_id, text, phrases, boxes)


def _grounded(
    text_id: str,
    image_id: str,
    text: str,
    phrases: list[entities.Phrase],
    boxes: dict[str, Box | None],
) -> GroundedCaption:
    numbers: dict[str, int] = {}
    found, mentions = [], []
    for phrase in phrases:
        box = boxes.get(phrase.number)
        if box is None or phrase.start == phrase.end:
            continue
        if phrase.number not in numbers:
            numbers[phrase.number] = len(found)
            found.append(box)
        mentions.append(Mention(phrase.start, phrase.end, numbers[phrase.number]))
    return GroundedCaption(text_id, image_id, text, tuple(mentions), tuple(found))


def _is_sentence(path: str) -> bool:
    """Whether a path is not the list of a split."""
    return pathlib.Path(path).name.partition(".")[0].isdecimal()


def _annotations(folder: str, sentences: str, on_missing: str) -> str:
    """The annotations beside a file of sentences; "" where there are none and that may be."""
    name = pathlib.Path(sentences).name.removesuffix(".gz").removesuffix(".txt") + ".xml"
    place = entities.folder_of(folder, "Annotations")
    there = any((place / f"{name}{end}").is_file() for end in ("", ".gz"))
    if on_missing == "skip" and not there:
        return ""
    return official_files.locate(place, name, fix=f"{entities.DOWNLOAD}, {SKIP}")


def _captions_file(folder: str) -> list[str]:
    try:
        return flickr30k.files(folder, "full")
    except DataError:
        return []


def _captions(folder: str) -> dict[str, list[str]] | None:
    """Flickr30k's own captions of each image, where they are there."""
    if not _captions_file(folder):
        return None
    found: dict[str, dict[int, str]] = {}
    for caption in flickr30k.records(folder, "full"):
        number = int(caption.text_id.partition("#")[2])
        found.setdefault(caption.image_id, {})[number] = caption.text
    return {image: [own[k] for k in sorted(own)] for image, own in found.items()}


def _compare(sentences: list[str], captions: list[str], path: str) -> None:
    """Refuses sentences that are not the captions of their image."""
    if [*map(_letters, sentences)] == [*map(_letters, captions)]:
        return
    pairs = zip(sentences, captions, strict=False)
    other = [(k, one, two) for k, (one, two) in enumerate(pairs) if _letters(one) != _letters(two)]
    if other and len(sentences) == len(captions):
        k, one, two = other[0]
        expected, found = f"caption {k} {two!r}", f"sentence {k} {one!r}"
    else:
        expected, found = f"{len(captions)} captions", f"{len(sentences)} sentences"
    raise DataError(
        "sentences of an image are not its captions in Flickr30k",
        where=path,
        expected=f"{expected}, as in results_20130124.token",
        found=found,
        fix=f"{entities.DOWNLOAD}; or take results_20130124.token out of the folder, and the "
        "sentences are taken as they are",
    )


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


prepare = functools.partial(official.prepare, __name__)
BUILDER = declare(__name__, GroundedCaption)
