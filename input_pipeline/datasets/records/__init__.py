"""What the official files hold, one dataclass per kind of example; every data set gives these.

A data set's module reads its files into records, in an order that never changes; a TFDS builder
stores records (`reading.builder`), and training turns them into rows of a text table. Values are
plain: str, int, float, tuples of these, and dataclasses of these. Image ids are ids in a region
store: the decimal number for COCO, Visual Genome, GQA and Flickr30k images.
"""

from input_pipeline.datasets.records.base import Box, Record, RowOptions, Shown
from input_pipeline.datasets.records.boxes import Expression, Pointing
from input_pipeline.datasets.records.choices import MultipleChoice
from input_pipeline.datasets.records.mentions import Mention, ObjectBox, Token
from input_pipeline.datasets.records.questions import AnnotatedQuestion, Answer, Question
from input_pipeline.datasets.records.texts import Caption, GroundedCaption, Statement

__all__ = [
    "AnnotatedQuestion",
    "Answer",
    "Box",
    "Caption",
    "Expression",
    "GroundedCaption",
    "Mention",
    "MultipleChoice",
    "ObjectBox",
    "Pointing",
    "Question",
    "Record",
    "RowOptions",
    "Shown",
    "Statement",
    "Token",
]
