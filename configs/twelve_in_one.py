"""12-in-1 as its authors trained it: the tasks, their recipes, heads and data, in tables.

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
- Its other schedules fight with the warm-up ("mannul", falling to a fifth with the sixth and the
  eighth epoch, at whose ends stop-and-go starts anew whatever the schedule) or crash ("automatic").
- Its Visual Dialog, FOIL and GuessWhat oracle cannot run as released, and it names no test of
  Flickr30k's grounding: these tasks are left out.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from configs import common


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one task is trained.

    Attributes:
      number: of the task in the released file, TASK<number>, and its row of the task tokens.
      group: of tasks that share heads (section 3.2 of the paper); "": none of the twelve.
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
# {head: its name in `multi_task_model.bin`}
HEADS = {
    "vqa": "vil_prediction",
    "gqa": "vil_prediction_gqa",
    "ranking": "vil_logit",
    "grounding": "vision_logit",
    "nlvr2": "vil_binary_prediction",
    "entailment": "vil_tri_prediction",
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


def rate(names: Iterable[str]) -> float:
    """The learning rate of a run over these tasks: their smallest."""
    return min(RECIPES[name].rate for name in names)


def loss_scale(name: str, names: Iterable[str]) -> float:
    """What a task's loss is multiplied with in a run over `names`, of which it is one."""
    return RECIPES[name].rate / rate(names)


def head_rate(name: str) -> float:
    """The learning rate of a task's head; 0: the run's."""
    return RATE_OF_HEADS if HEADS[RECIPES[name].head].startswith("vil_") else 0.0
