"""Options of masked words."""

from core.checks import flag, number, one_of

OPTIONS = dict(
    rate=0.15,  # of words
    whole_word=True,  # False: of word pieces (ViLBERT)
    cap=0.4,  # gathered positions per row, as a share of max_text
    normalize="mean",  # or "per_sample": each example weighs the same
)
CHECKS = dict(
    rate=number(0, 1),
    whole_word=flag(),
    cap=number(above=0, most=1),
    normalize=one_of("mean", "per_sample"),
)
