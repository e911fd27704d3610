"""Options of masked words."""

from core.checks import flag, number, one_of

OPTIONS = dict(
    # "all": a share `rate` of the words, by BERT's rule; "marked": one word of each text, of those
    # that the data set marks because only the image tells them, always by [MASK].
    words="all",
    rate=0.15,  # of words
    whole_word=True,  # False: of word pieces (ViLBERT)
    cap=0.4,  # gathered positions per row, as a share of max_text
    normalize="mean",  # or "per_sample": each example weighs the same
)
CHECKS = dict(
    words=one_of("all", "marked"),
    rate=number(0, 1),
    whole_word=flag(),
    cap=number(above=0, most=1),
    normalize=one_of("mean", "per_sample"),
)
