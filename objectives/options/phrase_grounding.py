"""Options of phrases that point at their regions."""

from core.checks import one_of, share, whole

OPTIONS = dict(
    width=32,  # of the projections whose product is a region's score
    # Which states point: the "last", or the "lower" ones, where words and regions first meet: what
    # lies above can then use it to bring a region's content to the words.
    states="last",
    # Share of the rows whose words carry the region they speak of as their visual embedding
    # (VL-BERT), as in VCR; these are not asked where it is.
    tagged=0.0,
)
CHECKS = dict(width=whole(1), states=one_of("lower", "last"), tagged=share())
