"""What the official files hold, one dataclass a kind of example; every data set gives these.

A data set's module reads its files into records, in an order that never changes; a TFDS builder
stores records (`datasets.builder`), and training turns them into rows of a text table. Values are
plain: str, int, float, tuples of these, and dataclasses of these. Image ids are ids in a region
store: the decimal number for COCO, Visual Genome, GQA and Flickr30k images.
"""

import dataclasses

Box = tuple[float, float, float, float]  # xyxy in pixels of the image


@dataclasses.dataclass(frozen=True)
class Caption:
    """A text that describes an image."""

    text_id: str
    image_id: str
    text: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer and its soft score, 0 to 1."""

    text: str
    score: float


@dataclasses.dataclass(frozen=True)
class Question:
    """An open question on an image (VQA v2, Visual Genome QA, GQA).

    Attributes:
      text_id: question id.
      image_id: of the region store.
      text: the question.
      answers: distinct answers with soft scores; empty where the split has no labels.
      raw_answers: the annotators' answers as given (ten in VQA v2), for the official metric.
      question_type, answer_type: as the data set names them; empty where it does not.
    """

    text_id: str
    image_id: str
    text: str
    answers: tuple[Answer, ...] = ()
    raw_answers: tuple[str, ...] = ()
    question_type: str = ""
    answer_type: str = ""


@dataclasses.dataclass(frozen=True)
class Token:
    """A word, or a mention of objects of the image (then `word` is empty)."""

    word: str
    objects: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class ObjectBox:
    """An annotated object: class name, box, detector score, polygons of (x, y) pixels."""

    name: str
    box: Box
    score: float = 1.0
    polygons: tuple[tuple[tuple[float, float], ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class MultipleChoice:
    """A VCR question. `Token.objects` are indices of `objects`; labels are -1 where unknown."""

    text_id: str
    image_id: str
    height: int
    width: int
    question: tuple[Token, ...]
    answers: tuple[tuple[Token, ...], ...]
    rationales: tuple[tuple[Token, ...], ...]
    answer_label: int
    rationale_label: int
    objects: tuple[ObjectBox, ...]


@dataclasses.dataclass(frozen=True)
class Expression:
    """A referring expression.

    Attributes:
      text_id: sentence id.
      ref_id: of the referred object's entry, -1 where the source has none.
      image_id: of the region store.
      text: the expression.
      box: of the referred object.
      candidates: boxes to choose from, where the protocol gives them (annotated, detected, both).
    """

    text_id: str
    ref_id: int
    image_id: str
    text: str
    box: Box
    candidates: tuple[Box, ...] = ()


@dataclasses.dataclass(frozen=True)
class Statement:
    """A statement about one image or two (SNLI-VE, NLVR2); label -1 where unknown."""

    text_id: str
    image_ids: tuple[str, ...]
    text: str
    label: int
    label_name: str = ""


@dataclasses.dataclass(frozen=True)
class Pointing:
    """A text whose answer is one of several boxes (Visual7W, GuessWhat).

    Attributes:
      text_id: question or game id.
      image_id: of the region store.
      text: question, or the whole dialogue.
      boxes: all boxes of the image that can be candidates somewhere, sorted by their id.
      candidates: indices into `boxes` of this example's candidates.
      target: index into `candidates`, -1 where unknown.
    """

    text_id: str
    image_id: str
    text: str
    boxes: tuple[Box, ...]
    candidates: tuple[int, ...]
    target: int
