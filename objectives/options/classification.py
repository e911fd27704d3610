"""Options of classes of a text with one image or two."""

from core.checks import number, one_of, whole

OPTIONS = dict(
    classes=0,  # C; 0: as many as the data set's labels are of
    images=1,  # per example; with 2 the pooled states of the text with either stand side by side
    classifier="1fc",  # or "transform": linear, GELU, norm, linear
    dropout=0.0,  # before the last layer; ViLBERT's is in its trunk
    loss="softmax",  # over the classes, or "sigmoid" of each (12-in-1)
)
CHECKS = dict(
    classes=whole(0),
    images=one_of(1, 2),
    classifier=one_of("1fc", "transform"),
    dropout=number(0, below=1),
    loss=one_of("softmax", "sigmoid"),
)
