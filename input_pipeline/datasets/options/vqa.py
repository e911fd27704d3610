"""Options of VQA v2."""

from core.checks import one_of
from input_pipeline.datasets.options import shared

OPTIONS = dict(
    **shared.ANSWERS,
    # Annotators' answers count for a listed one that is written like it ("verbatim", as in both
    # originals), or that the evaluation takes for the same ("normalized": "T-shirt", "t shirt").
    answer_form="verbatim",
)
CHECKS = dict(**shared.ANSWER_CHECKS, answer_form=one_of(*shared.ANSWER_FORMS))
