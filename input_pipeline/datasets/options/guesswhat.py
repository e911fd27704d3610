"""Options of GuessWhat?!"""

from core.checks import one_of
from input_pipeline.datasets.options import shared

GAMES = ("all", "success")

OPTIONS = dict(
    games="all",  # or "success", those that were won
    **shared.CANDIDATES,
)
CHECKS = dict(games=one_of(*GAMES), **shared.CANDIDATE_CHECKS)
