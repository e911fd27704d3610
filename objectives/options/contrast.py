"""Options of contrast."""

from core.checks import number, one_of, whole

OPTIONS = dict(
    couples=8,  # captions of a group, and images; as many as the stream's `couples`
    dropout=0.0,  # before the linear layer; ViLBERT's is in its trunk
    # From a checkpoint with an alignment head: "alignment", its log-odds, or "random".
    head_init="random",
)
CHECKS = dict(
    couples=whole(2),
    dropout=number(0, below=1),
    head_init=one_of("alignment", "random"),
)
