"""The tasks of `multitask`: on the embedded data, and on the official files of 12-in-1 and VCR."""

from types import ModuleType
from typing import NamedTuple

from configs import nlvr2, pointing, refcoco, retrieval, snli_ve, twelve_in_one, vcr, vqa


class Task(NamedTuple):
    """One task of a run.

    Attributes:
      published: row of `twelve_in_one.RECIPES`, which has its number, its group, and of official
        data its batch, rate and lengths.
      config: of the task by itself.
      arguments: of that config, beside model and size.
      score: evaluation and metric that say how well it is done; {} stands for its name.
    """

    published: str
    config: ModuleType
    arguments: str
    score: str = "{0}/{0}_accuracy"

    @property
    def group(self) -> str:
        return twelve_in_one.RECIPES[self.published].group or REASONING


REASONING = "reasoning"  # VCR, none of the twelve
_ANSWERS = "{0}_official/accuracy"
SCENES = {
    "vqa": Task("vqa", vqa, "data=scenes", _ANSWERS),
    "retrieval": Task("flickr30k", retrieval, "data=scenes", "{0}_ranking/image_retrieval_r1"),
    "refcoco": Task("refcoco", refcoco, "data=scenes"),
    "pointing": Task("visual7w", pointing, "data=scenes"),
    "nlvr2": Task("nlvr2", nlvr2, "data=scenes"),
    "entailment": Task("snli_ve", snli_ve, "data=scenes"),
    "answers": Task("answers", vcr, "data=scenes"),
    "rationales": Task("rationales", vcr, "data=scenes,task=rationales"),
}
# As in the release, the controllers of retrieval hear the four-way accuracy: ranking takes long.
OFFICIAL = {
    name: Task(name, config, arguments, *more)
    for name, config, arguments, *more in (
        ("vqa", vqa, "data=vqa", _ANSWERS),
        ("visual_genome_qa", vqa, "data=visual_genome_qa", _ANSWERS),
        ("gqa", vqa, "data=gqa", _ANSWERS),
        ("coco", retrieval, "data=coco_captions"),
        ("flickr30k", retrieval, "data=flickr30k"),
        ("refcoco", refcoco, "data=refcoco"),
        ("refcoco_plus", refcoco, "data=refcoco"),
        ("refcocog", refcoco, "data=refcoco"),
        ("visual7w", pointing, "data=visual7w"),
        ("guesswhat", pointing, "data=guesswhat"),
        ("nlvr2", nlvr2, "data=nlvr2"),
        ("snli_ve", snli_ve, "data=snli_ve"),
        ("answers", vcr, "data=vcr"),
        ("rationales", vcr, "data=vcr,task=rationales"),
    )
}
TASKS = {"scenes": SCENES, "official": OFFICIAL}
PRETRAINING = "pretraining"  # a task, too: captions with the pre-training objectives


def chosen(tasks: str, data: str) -> list[str]:
    """Names of the tasks, in the order of their table.

    Raises:
      ValueError: one that is neither a task nor a group; lists those there are.
    """
    known = TASKS[data]
    groups: dict[str, list[str]] = {}
    for name, task in known.items():
        groups.setdefault(task.group, []).append(name)
    of_all = [n for n, task in known.items() if data == "scenes" or task.group != REASONING]
    wanted: set[str] = set()
    for name in tasks.split("+"):
        if name == "all":
            wanted |= set(of_all)
        elif name in groups:
            wanted |= set(groups[name])
        elif name in known or name == PRETRAINING:
            wanted.add(name)
        else:
            raise ValueError(
                f"config argument 'tasks' must be 'all', a group of {sorted(groups)}, or names of "
                f"{[*known, PRETRAINING]} joined by '+'; found {name!r}"
            )
    return [name for name in [*known, PRETRAINING] if name in wanted]
