"""Options of GuessWhat?!"""

from core.checks import one_of

GAMES = ("all", "success")

OPTIONS = dict(
    games="all",  # or "success", those that were won
)
CHECKS = dict(games=one_of(*GAMES))
