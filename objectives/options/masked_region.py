"""Options of masked regions."""

from core.checks import flag, number, one_of, share, whole

OPTIONS = dict(
    # "cross_entropy" with the detector's distribution, "kl", "regression", "contrastive"
    target="cross_entropy",
    rate=0.15,  # of regions, whole image never
    keep=0.1,  # of those: features stay visible
    overlap="none",  # "paper": hide what overlaps with a hidden region; "released"
    iou=0.4,  # overlap beyond which a region is hidden too
    image_row="unmasked",  # mean of what is visible; "zeroed", "released", "stored"
    head_norm=False,  # a norm in the head (ViLBERT)
    negatives=128,  # "contrastive": negative regions per target
    elsewhere=0.7,  # share of them from other images
    normalize="mean",  # or "per_sample": each example weighs the same
)
CHECKS = dict(
    target=one_of("cross_entropy", "kl", "regression", "contrastive"),
    rate=share(),
    keep=share(),
    overlap=one_of("none", "paper", "released"),
    iou=number(0, 1),
    image_row=one_of("unmasked", "zeroed", "released", "stored"),
    head_norm=flag(),
    negatives=whole(1),
    elsewhere=share(),
    normalize=one_of("mean", "per_sample"),
)
