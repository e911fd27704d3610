"""Options of VCR."""

from core.checks import one_of

RECORDS = ("answers", "rationales")

OPTIONS = dict(
    records="answers",  # to a question, or "rationales" of the answered question
)
CHECKS = dict(records=one_of(*RECORDS))
