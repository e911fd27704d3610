"""Options of Conceptual Captions."""

from core.checks import one_of

INDEXINGS = ("crc32", "row")

OPTIONS = dict(
    indexing="crc32",  # image ids are crc32 of the url, or "row" numbers
)
CHECKS = dict(indexing=one_of(*INDEXINGS))
