"""What a data set hands over."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from input_pipeline.datasets.reading.stretches import Stretch
from input_pipeline.texts.rows import Row, Skipped


@dataclasses.dataclass(frozen=True)
class PictureObjects:
    """The true objects of a picture.

    Attributes:
      image_id: of the picture.
      boxes: float32 [n, 4] xyxy in pixels.
      class_ids: int [n].
      attribute_ids: int [n], -1 where none is known.
    """

    image_id: str
    boxes: np.ndarray
    class_ids: np.ndarray
    attribute_ids: np.ndarray


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a data set hands over: files and an iterator of texts.

    Attributes:
      stores: folders of the region store.
      vocab: path of a vocab.txt, or a name on the hub.
      rows: rows(split) -> iterator over the texts of a split, the same each time.
      fingerprint: fingerprint(split) -> text that changes whenever rows(split) would; cheap.
      splits: names of the splits.
      count: count(split) -> about how many rows it has, for the time that is left; None: unknown.
      origin: origin(split) -> the files of the split, for messages.
      corpus: plain text files of the text-only stream.
      priors: {slot: {"prior", "text_only"}}, shares of marked words guessed without the image, as
        far as the data set knows.
      kinds: {kind: its words} of marked words, in the order of their numbers in `Row.probe`; empty
        where none are named.
      sources: names of the kinds of rows that the data set itself tells apart in `Row.source`, a
        weight each; small data may lack some. Empty: the sources are files.
      image_name: image_name(image id) -> the image's name over data sets ("coco:139"), by which
        the leak check compares; where there is none, the id itself.
      urls: urls(split) -> iterator over (image id, url) of its texts, of a data set in which two
        images may have one id, by which the leak check tells them apart; else None.
      answers: answers.AnswerVocabulary of a data set of questions, else None.
      records: records(split) -> iterator over what predictions are compared with and shown beside
        (`datasets.records`), each with the text_id of its row; None where there is no task.
      pictures: pictures(image ids) -> {image id: bytes of a picture}, of a data set that comes with
        them, else None; `pictures.open_pictures` reads them, or `data.pictures`.
      picture_store: picture_store() -> folder of a picture store, which is built if need be, of a
        data set that has its pictures; else None, and `data.pictures` names one.
      review: review(split, its TextTable, the rows that are used: int [N]) tells what is to be
        known of them, or raises DataError; None where there is nothing to tell.
      check_store: check_store(split, image ids of its texts, ids in the region store) raises
        DataError where the ids cannot mean the same images; None: nothing to check.
      labels: names of the classes by `Statement.label`; empty where there are none.
      stretches: stretches(split, bytes) -> pieces of a split that can be read by themselves, whose
        rows one after the other are those of the split; None where it is read in one go alone.
      rows_in: rows_in(split, stretch) -> iterator over the texts of one; beside `stretches`.
      tally: tally(split, stretch) -> {image id: its texts in one}, where texts are called by such
        numbers and `Stretch.before` is needed; else None.
      objects: objects(split) -> iterator over the true objects of each picture, of a data set that
        a detector can be trained on, else None.
      object_names: names of objects' classes and of their attributes, by number.
    """

    stores: Sequence[str]
    vocab: str
    rows: Callable[[str], Iterator[Row | Skipped]]
    fingerprint: Callable[[str], str]
    splits: Collection[str]
    corpus: Sequence[str] = ()
    count: Callable[[str], int | None] = lambda split: None
    origin: Callable[[str], str] = str
    priors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kinds: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    sources: Sequence[str] = ()
    image_name: Callable[[str], str] = str
    urls: Callable[[str], Iterator[tuple[str, str]]] | None = None
    answers: Any = None
    records: Callable[[str], Iterator[Any]] | None = None
    pictures: Callable[[Iterable[str]], dict[str, bytes]] | None = None
    picture_store: Callable[[], str] | None = None
    labels: Sequence[str] = ()
    objects: Callable[[str], Iterator[PictureObjects]] | None = None
    object_names: tuple[Sequence[str], Sequence[str]] = ((), ())
    review: Callable[..., None] | None = None
    check_store: Callable[[str, Sequence[str], Sequence[str]], None] | None = None
    stretches: Callable[[str, int], list[Stretch]] | None = None
    rows_in: Callable[[str, Stretch], Iterator[Row | Skipped]] | None = None
    tally: Callable[[str, Stretch], Mapping[str, int]] | None = None
