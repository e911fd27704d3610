"""Options of multiple choice."""

from core.checks import number, one_of, whole

OPTIONS = dict(
    pairs="texts",  # each of `choices` texts with the one image, or "retrieval": four pairs
    choices=4,  # texts per example; 4 in VCR and in retrieval
    classifier="1fc",  # or VL-BERT's alternative, "2fc"
    width=0,  # between the layers of "2fc"; 0: the pooled state's
    # Which part of a too long pair is cut where both are equally long: its "choice" (ViLBERT), or
    # its "question" (VL-BERT), of which an answer given with it goes last and, in a split without
    # labels, nothing at all.
    cut_first="choice",
    loss="softmax",  # over the pairs, or "sigmoid" of each
    dropout=0.0,  # before each linear layer; ViLBERT's is in its trunk
    # Of a "1fc", from a checkpoint with an alignment head: "alignment", its log-odds, or "random".
    head_init="random",
    # Second segment of a checkpoint that never used it: "copy" of the first, or "as_loaded".
    segment_b="as_loaded",
)
CHECKS = dict(
    pairs=one_of("texts", "retrieval"),
    choices=whole(2),
    classifier=one_of("1fc", "2fc"),
    width=whole(0),
    cut_first=one_of("choice", "question"),
    loss=one_of("softmax", "sigmoid"),
    dropout=number(0, below=1),
    head_init=one_of("alignment", "random"),
    segment_b=one_of("copy", "as_loaded"),
)
