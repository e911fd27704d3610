"""Options of the alignment of caption and image."""

from core.checks import flag, share

OPTIONS = dict(
    rate=0.5,  # of captions swapped
    drop_labels=False,  # True: mismatched rows have no other targets (12-in-1)
)
CHECKS = dict(rate=share(), drop_labels=flag())
