"""12-in-1 as its authors trained it: the tasks, their recipes, heads, data and results, in tables.

Lu et al., "12-in-1: Multi-Task Vision and Language Representation Learning" (2020), and the task
file and training script that they released. `presets` takes ViLBERT's recipe "multitask" of one
task from here, `multitask` all of it.

What the released code does otherwise than its tables and paper say, which is off by default here:

- All tasks train for the epochs of the task that is named last, and the iterations of an epoch are
  called a median and are the largest of all tasks (`Recipe.epochs` is each task's own here).
- The schedule steps between the first task's update and the others', so that the first update has
  rate 0 and the first task is half an iteration behind; models of the paper were trained before
  that (June 2020).
- A batch's size and rate are those of VQA's later runs: paper and first release have 256.
- A task with RATE_OF_HEADS trains its head at that rate whatever the others'; heads of regions and
  words go with the trunk. Factors of a loss hardly matter to Adam beyond the shared moments.
- Heads that a batch does not use have gradients of zero, once they were used: they move on by their
  moments, and decay.
- A gap of -1 is documented as "never" and trains always.
- Retrieval's validation file is its test file, so that stop-and-go sees the test images.
- Validation of retrieval is one of four, with random images for the hard ones.
- Its other schedules fight with the warm-up ("mannul", falling to a fifth after epochs 5 and 7, at
  whose ends stop-and-go starts anew whatever the schedule) or crash ("automatic").
- Its Visual Dialog, FOIL and GuessWhat oracle cannot run as released, and it names no test of
  Flickr30k's grounding: these tasks are left out.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from configs import common

# Groups of tasks that share heads (section 3.2 of the paper), in its order.
GROUPS = ("vocab_vqa", "retrieval", "referring", "verification")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one task is trained.

    Attributes:
      number: of the task in the released file, TASK<number>, and its row of the task tokens.
      group: one of GROUPS; "": none of the twelve.
      head: key of HEADS.
      batch: examples of an update; a question with its choices is one, and so is a caption with its
        four pairs.
      rate: learning rate; the smallest of a run's tasks is the run's, the others' losses are
        multiplied (`loss_scale`).
      text: word pieces, [CLS] and [SEP] included.
      regions: of an image, the whole image included.
      epochs: of training.
    """

    number: int
    group: str
    head: str
    batch: int
    rate: float
    text: int
    regions: int
    epochs: int


# fmt: off
RECIPES: Mapping[str, Recipe] = {
    #                         task  group           head         batch  rate text regions epochs
    "vqa":              Recipe(  1, "vocab_vqa",    "vqa",         128, 4e-5,  23,    101,    20),
    "visual_genome_qa": Recipe(  2, "vocab_vqa",    "vqa",         128, 4e-5,  26,    101,    20),
    "gqa":              Recipe( 15, "vocab_vqa",    "gqa",         128, 4e-5,  26,    101,    20),
    "coco":             Recipe(  7, "retrieval",    "ranking",     128, 2e-5,  30,    101,    20),
    "flickr30k":        Recipe(  8, "retrieval",    "ranking",     128, 2e-5,  30,    101,    20),
    "refcoco":          Recipe(  9, "referring",    "grounding",   256, 2e-5,  20,    101,    20),
    "refcoco_plus":     Recipe( 10, "referring",    "grounding",   256, 2e-5,  20,    101,    20),
    "refcocog":         Recipe( 11, "referring",    "grounding",   256, 2e-5,  20,    101,    20),
    "visual7w":         Recipe(  4, "referring",    "grounding",   256, 2e-5,  20,    200,    20),
    "guesswhat":        Recipe( 17, "referring",    "grounding",    64, 2e-5, 256,    306,    20),
    "nlvr2":            Recipe( 12, "verification", "nlvr2",        64, 2e-5,  40,    101,    20),
    "snli_ve":          Recipe( 13, "verification", "entailment",  256, 2e-5,  56,    101,    20),
    # In the released file, and none of the twelve.
    "answers":          Recipe(  5, "",             "ranking",      64, 2e-5,  60,    101,    10),
    "rationales":       Recipe(  6, "",             "ranking",      64, 2e-5,  80,    101,    10),
}
# fmt: on
TWELVE = tuple(name for name, recipe in RECIPES.items() if recipe.group)


@dataclasses.dataclass(frozen=True)
class Head:
    """A head of ViLBERT's that tasks share.

    Attributes:
      published: its name in `multi_task_model.bin`.
      kind: of the objective.
      outputs: of its last layer; of answers, as many as the published lists have.
      loss: what a batch's mean is of.
      score: validation's, by which tasks stop and go.
    """

    published: str
    kind: str
    outputs: int
    loss: str
    score: str


_SIGMOIDS = "binary cross-entropy, summed over"
HEADS: Mapping[str, Head] = {
    "vqa": Head("vil_prediction", "vqa", 3129, f"{_SIGMOIDS} answers", "soft accuracy"),
    "gqa": Head("vil_prediction_gqa", "vqa", 1533, f"{_SIGMOIDS} answers", "soft accuracy"),
    "ranking": Head("vil_logit", "choice", 1, "cross-entropy of the pairs", "accuracy"),
    "grounding": Head(
        "vision_logit", "grounding", 1, f"{_SIGMOIDS} regions", "overlap above a half"
    ),
    "nlvr2": Head(
        "vil_binary_prediction",
        "classification",
        2,
        "binary cross-entropy, mean over classes",
        "accuracy",
    ),
    "entailment": Head(
        "vil_tri_prediction",
        "classification",
        3,
        "binary cross-entropy, mean over classes",
        "accuracy",
    ),
}


@dataclasses.dataclass(frozen=True)
class Files:
    """What of a data set's official files a task is trained and tested on.

    Attributes:
      dataset: module of `input_pipeline.datasets`.
      train, validation: splits.
      test: split of the paper's results, whose images no task is trained on.
      options: of the data set.
    """

    dataset: str
    train: str
    validation: str
    test: str
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)


def _refcoco(variant: str, split_by: str) -> Files:
    options = dict(variant=variant, split_by=split_by, expression="raw", candidates="detected")
    return Files("refcoco", "train", "val", "test", options)


FILES: Mapping[str, Files] = {
    "vqa": Files("vqa", "trainval", "minival", "test-dev2015"),
    "visual_genome_qa": Files("visual_genome_qa", "train", "val", "val"),
    "gqa": Files("gqa", "trainval", "minival", "testdev_balanced"),
    "coco": Files(
        "coco_captions", "karpathy_train+karpathy_restval", "karpathy_val", "karpathy_test"
    ),
    "flickr30k": Files("flickr30k", "train", "val", "test"),
    "refcoco": _refcoco("refcoco", "unc"),
    "refcoco_plus": _refcoco("refcoco+", "unc"),
    "refcocog": _refcoco("refcocog", "umd"),
    "visual7w": Files("visual7w", "train", "val", "test"),
    "guesswhat": Files("guesswhat", "train", "valid", "test"),
    "nlvr2": Files("nlvr2", "train", "dev", "test1"),
    "snli_ve": Files("snli_ve", "train", "dev", "test"),
    "answers": Files("vcr", "train", "val", "test", dict(records="answers")),
    "rationales": Files("vcr", "train", "val", "test", dict(records="rationales")),
}

# AdamW, moments without correction; warm-up and decay are linear.
OPTIMIZER = dict(
    b1=0.9, b2=0.999, eps=1e-6, correct_bias=False, weight_decay=0.01, clip_norm=0.0,
    no_decay=common.NO_DECAY,
)  # fmt: skip
WARMUP = 0.1  # share of all iterations
RATE_OF_HEADS = 1e-4  # of heads that the original calls "vil_", whatever the rate of the run
EPOCHS = 20  # of a run
# A task's validation score is better where it is above the best by more than `threshold` of it.
# After more than `patience` in a row that are not, it stops: it trains in one of `gap` iterations.
# It goes on where the score falls by more than `resume` of the best. After either, `cooldown`
# scores do not count as not better.
STOP_AND_GO = dict(threshold=0.001, patience=1, cooldown=1, resume=0.005, gap=4)

# The paper's table of results, percent: accuracies, and of retrieval recall at 1. VG-QA is measured
# on its validation split, VQA and GQA on test-dev, NLVR2 on its public test.
_COLUMNS = (
    "vqa", "gqa", "visual_genome_qa", "coco", "flickr30k", "refcoco",
    "refcoco_plus", "refcocog", "visual7w", "guesswhat", "nlvr2", "snli_ve",
)  # fmt: skip
# fmt: off
_RESULTS = {
    "single-task, full data":
        (71.82, 58.19, 34.38, 65.28, 61.14, 78.63, 71.11, 72.24, 80.51, 62.81, 74.25, 76.72),
    "single-task, clean data":
        (71.24, 59.09, 34.10, 64.80, 61.46, 78.17, 69.47, 72.21, 80.51, 62.53, 74.25, 76.53),
    "a model a group":
        (72.03, 59.60, 36.18, 65.06, 66.00, 80.23, 72.79, 75.30, 81.54, 64.78, 74.62, 76.52),
    "all tasks":
        (72.57, 60.12, 36.36, 63.70, 63.52, 80.58, 73.25, 75.96, 82.75, 65.04, 78.44, 76.78),
    "all tasks but verification":
        (72.68, 62.09, 36.74, 64.88, 64.62, 80.76, 73.60, 75.80, 83.03, 65.41),
    "a group, then single-task":
        (72.61, 59.96, 35.81, 66.26, 66.98, 79.94, 72.12, 75.18, 81.57, 64.56, 74.47, 76.34),
    "all tasks, then a group":
        (72.92, 60.48, 36.56, 65.46, 65.14, 80.86, 73.45, 76.00, 83.01, 65.15, 78.87, 76.73),
    "all tasks, then single-task":
        (73.15, 60.65, 36.64, 68.00, 67.90, 81.20, 74.22, 76.35, 83.35, 65.69, 78.87, 76.95),
}
# fmt: on
RESULTS: Mapping[str, Mapping[str, float]] = {
    setting: dict(zip(_COLUMNS[: len(scores)], scores, strict=True))
    for setting, scores in _RESULTS.items()
}


def members(group: str) -> tuple[str, ...]:
    """The tasks of a group, in the table's order."""
    return tuple(name for name, recipe in RECIPES.items() if recipe.group == group)


def rate(names: Iterable[str]) -> float:
    """The learning rate of a run over these tasks: their smallest."""
    return min(RECIPES[name].rate for name in names)


def loss_scale(name: str, names: Iterable[str]) -> float:
    """What a task's loss is multiplied with in a run over `names`, of which it is one."""
    return RECIPES[name].rate / rate(names)


def head_rate(name: str) -> float:
    """The learning rate of a task's head; 0: the run's."""
    head = HEADS[RECIPES[name].head]
    return RATE_OF_HEADS if head.published.startswith("vil_") else 0.0
