"""Options of VQA v2."""

from input_pipeline.datasets.options import shared

OPTIONS = shared.ANSWERS
CHECKS = shared.ANSWER_CHECKS
