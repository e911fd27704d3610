"""Options of Visual7W."""

from input_pipeline.datasets.options import shared

OPTIONS = shared.CANDIDATES
CHECKS = shared.CANDIDATE_CHECKS
