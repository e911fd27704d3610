"""Options of VCR."""

from core.checks import flag, one_of

RECORDS = ("answers", "rationales")

OPTIONS = dict(
    records="answers",  # to a question, or "rationales" of the answered question
    # Several objects that a text mentions together are joined by "and" (VL-BERT), or by nothing
    # (ViLBERT).
    objects_with_and=True,
    # Objects come with the cells of their boxes that their outlines cover, by which VL-BERT weighs
    # the features that it makes of pictures.
    outlines=False,
)
CHECKS = dict(records=one_of(*RECORDS), objects_with_and=flag(), outlines=flag())
