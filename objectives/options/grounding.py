"""Options of referring expressions."""

from core.checks import number, one_of

OPTIONS = dict(
    classifier="transform",  # linear, GELU, linear (VL-BERT), or "1fc" (ViLBERT)
    dropout=0.0,  # before the last layer
    target="binary",  # overlap with the referred box above half (VL-BERT), or "soft" (ViLBERT)
    normalize="candidates",  # mean over all of the batch, or over "examples" of their sums
    hit="at_least_half",  # overlap of a right choice; or "over_half"
)
CHECKS = dict(
    classifier=one_of("transform", "1fc"),
    dropout=number(0, below=1),
    target=one_of("binary", "soft"),
    normalize=one_of("candidates", "examples"),
    hit=one_of("at_least_half", "over_half"),
)
