"""Options of objects' classes."""

from core.checks import whole

OPTIONS = dict(
    classes=81,  # COCO's 80 and the background (VCR)
)
CHECKS = dict(classes=whole(2))
