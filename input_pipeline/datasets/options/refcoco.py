"""Options of RefCOCO, RefCOCO+ and RefCOCOg."""

from core.checks import one_of

SPLITS = ("train", "val", "test", "testA", "testB")
DIVISIONS = {  # {variant: {split_by: its splits}}
    "refcoco": {"unc": SPLITS, "google": ("train", "val", "test")},
    "refcoco+": {"unc": SPLITS},
    "refcocog": {"umd": ("train", "val", "test"), "google": ("train", "val")},
}
CANDIDATES = ("gt", "detected", "both", "both_in_training", "regions", "listed")
EXPRESSIONS = ("tokens", "raw")

OPTIONS = dict(
    variant="refcoco+",  # or "refcoco", "refcocog"
    split_by="unc",  # who split it; "umd" for refcocog
    candidates="gt",  # may be chosen: annotated boxes, or one of CANDIDATES; see the data set
    expression="tokens",  # the text is the tokens (VL-BERT) or "raw" (ViLBERT)
)
CHECKS = dict(
    variant=one_of(*DIVISIONS),
    split_by=one_of(*dict.fromkeys(who for divisions in DIVISIONS.values() for who in divisions)),
    candidates=one_of(*CANDIDATES),
    expression=one_of(*EXPRESSIONS),
)
