"""Options that every data set has, and the answer list, which several declare."""

from core.checks import each, number, one_of, text, whole

LEAKS = ("error", "report", "drop")
ON_MISSING = ("error", "skip")

OPTIONS = dict(
    dataset="",  # a module of input_pipeline/datasets
    # Prepared data sets and tokenised tables are kept here. Paths of this block may be gs://:
    # regions are read in place, the rest is copied once into $VL_CACHE (~/.cache/vl_models).
    dir="data",
    manual_dir="",  # official files as downloaded
    tfds_dir="",  # or where `tfds build` put them
    train_split="train",  # the data set's own split name(s): "train2014+val2014"
    eval_split="validation",
    test_split="",  # more split(s) whose images no stream of the run trains on
    image_data="",  # Visual Genome's image_data.json, which tells its COCO images (leak check)
    leaks="error",  # training images that are evaluated on: "error", "report", or "drop" them
    # More images to keep out of training: files of ids (of one collection: coco=FILE), or
    # DATASET:SPLIT.
    held_out="",
    regions="",  # region store folder(s), comma-separated; empty: the data set's own
    pictures="",  # local folder of the pictures, for reports; scenes have their own
    vocab="",  # vocab.txt path or hub name; empty: the data set's own
    vocab_size=4000,  # word pieces, where a vocabulary is trained
    corpus="",  # plain text file(s) of streams without images, comma-separated
    weights=(),  # shares of the joined splits or annotation files; empty: by their sizes
    corpus_weights=(),  # the same for the files in `corpus`
    on_missing="error",  # or "skip" what lacks text or regions, found before step 0
    threads=4,  # parallel batch reads
    prefetch=4,  # batches read ahead
)
CHECKS = dict(
    dataset=text(empty=False),
    dir=text(empty=False),
    manual_dir=text(),
    tfds_dir=text(),
    train_split=text(empty=False),
    eval_split=text(empty=False),
    test_split=text(),
    image_data=text(),
    leaks=one_of(*LEAKS),
    held_out=text(),
    regions=text(),
    pictures=text(),
    vocab=text(),
    vocab_size=whole(1),
    corpus=text(),
    weights=each(number(0)),
    corpus_weights=each(number(0)),
    on_missing=one_of(*ON_MISSING),
    threads=whole(1),
    prefetch=whole(1),
)

ANSWER_FORMS = ("verbatim", "normalized")

# Of data sets that are answered from a list.
ANSWERS = dict(
    # Answer list in a checkpoint's order; empty: made of the training questions, by frequency.
    answers="",
    answer_count=9,  # questions an answer must be the main one of, where the list is made
)
ANSWER_CHECKS = dict(answers=text(), answer_count=whole(1))
