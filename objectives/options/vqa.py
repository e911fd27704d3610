"""Options of questions with an answer list."""

from core.checks import number, one_of, whole

OPTIONS = dict(
    form="masked_answer",  # reads the state of [MASK]; or "pooled", the pooled state
    # "transform", or VL-BERT's "1fc" and "2fc", or ViLBERT's first: "weight_norm"
    classifier="transform",
    width=0,  # between the layers; 0: the state's, twice that in the pooled form
    # Of the last layer, from a checkpoint: the answers' "words" (VL-BERT), or "random".
    classifier_init="words",
    dropout=0.0,  # in the classifier; ViLBERT's is in its trunk
)
CHECKS = dict(
    form=one_of("masked_answer", "pooled"),
    classifier=one_of("transform", "1fc", "2fc", "weight_norm"),
    width=whole(0),
    classifier_init=one_of("words", "random"),
    dropout=number(0, below=1),
)
