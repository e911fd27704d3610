"""Options of VCR."""

from core.checks import flag, one_of

RECORDS = ("answers", "rationales")

OPTIONS = dict(
    records="answers",  # to a question, or "rationales" of the answered question
    # Several objects that a text mentions together are joined by "and" (VL-BERT), or by nothing
    # (ViLBERT).
    objects_with_and=True,
)
CHECKS = dict(records=one_of(*RECORDS), objects_with_and=flag())
