"""Options of a stream at their defaults; what they must be is `limits.CHECKS`.

Configs take their blocks from here, so nothing here needs numpy or data.
"""

OPTIONS = dict(
    images=True,  # False: rows of plain text, from data.corpus
    objectives=(),
    batch_size=0,  # examples of this stream in the global batch, over all hosts
    max_text=64,  # T: word pieces, [CLS] and [SEP] included
    max_regions=64,  # R: regions, whole image included
    max_length=64,  # text + regions are cut to this together, [END] not counted
    order="confidence",  # which regions are cut first: the least sure ("stored": the last)
    resize=(),  # (short, long) side the boxes are scaled to before the geometry embedding
    # With model.features="pixels", (height, width) of what pictures are padded to, each a
    # program of its own; (): by `resize`, lying, standing and square, or what the largest needs
    canvases=(),
    # "boxes": half of the pictures are mirrored, geometry only; "boxes_and_words": and whole
    # words left and right exchanged; "boxes_and_pieces": in longer words, too (VL-BERT's code)
    flip="off",
    block=0,  # > 0: shuffle blocks of this many neighbours on disk (sequential reads)
    negatives=False,  # add another image's caption per example, for alignment
    # Batches of examples alike in size, cut to ((max_text, max_regions, max_length), ...), each
    # no smaller than the one before; what fits none has the sizes above. (): all have.
    buckets=(),
    distractors="",  # retrieval: "random", or a pool of hard negatives (.npz)
    # With distractors, captions of a group and images, each caption with its own; 0: the four
    # pairs of four-way retrieval
    couples=0,
    iou="plus_one",  # how boxes' overlaps are measured: end pixels count, or "plain"
    task=0,  # row of the task table, where the model has one (model.tasks)
    rate=1.0,  # factor of the learning rate, in updates of the stream by itself
    # "evals/<name>/<metric>", a share: how well the task is done; see docs/multitask.md
    score="",
)
# Of a stream whose examples are read by themselves: none of others beside them.
ALONE = dict(negatives=False, distractors="", couples=0)
