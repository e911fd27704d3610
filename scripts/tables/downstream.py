"""All tasks on the embedded data, from scratch and from a pre-trained run, on test images.

Pre-training is `make pretrain`'s and `make pretrain MODEL=vilbert`'s, measured by the words that it
fills in; every task's is the README's command. Both starts have the same recipe, examples and
steps; the best checkpoint by the validation images is measured on the test images.
"""

import collections
import statistics

from input_pipeline import datasets
from scripts.experimenting.declared import Cell, Table, Trial

MODELS = {"vlbert": "VL-BERT", "vilbert": "ViLBERT"}
IMAGES = 50  # that retrieval ranks
GAIN = "visual_gain/visual_gain"
KINDS = {  # of words, as the evaluation names them: as they are shown
    "colour": "colour",
    "shape": "shape",
    "size": "size",
    "material": "material",
    "left_right": "left, right",
    "above_below": "above, below",
    "place": "place",
}


def likeliest_answer(config) -> float:
    """Accuracy of the most frequent training answer to questions of the same type."""
    prepared = datasets.prepare(config.data)
    counts = collections.defaultdict(collections.Counter)
    for question in prepared.records("train"):
        counts[question.question_type][question.answers[0].text] += 1
    likeliest = {kind: found.most_common(1)[0][0] for kind, found in counts.items()}
    return statistics.fmean(
        next((a.score for a in q.answers if a.text == likeliest[q.question_type]), 0.0)
        for q in prepared.records("test")
    )


# Name: its row, config with {} for the model, metric, and what else differs from the config.
TASKS = dict(
    refcoco=("Referring expressions", "refcoco.py:model={}", "validation/grounding_accuracy", {}),
    vqa=("VQA, official accuracy", "vqa.py:model={}", "official/accuracy", {}),
    nlvr2=("NLVR2", "nlvr2.py:model={}", "validation/classification_accuracy", {}),
    vcr=("VCR, Q→A", "vcr.py:model={}", "validation/choice_accuracy", {}),
    rationales=(
        "VCR, QA→R", "vcr.py:model={},task=rationales", "validation/choice_accuracy", {},
    ),
    retrieval=(
        f"Image retrieval, R@1 of {IMAGES}", "retrieval.py:model={}",
        "ranking/image_retrieval_r1", {"evals.ranking.first": IMAGES},
    ),
)  # fmt: skip


def pretraining(model: str) -> Trial:
    """The run that the others start from."""
    return Trial(
        f"pretrain/{model}",
        f"configs/{model}_pretrain.py",
        validates=("validation", "visual_gain"),
    )


def words(model: str) -> Trial:
    """The words that the pre-trained run fills in, right within their kind."""
    column, kind = f"{MODELS[model]}, pre-trained", "visual_gain/by_kind/{}/{}"
    cells = [Cell("Visual gain, points", column, GAIN, share=False)]
    cells += [
        Cell(f"Words: {shown}", column, kind.format(name, "within"), kind.format(name, "prior"))
        for name, shown in KINDS.items()
    ]
    return Trial(
        f"words/{model}",
        f"configs/{model}_pretrain.py",
        tuple(cells),
        start=f"pretrain/{model}",
        train=False,
    )


def task(name: str, model: str, start: str) -> Trial:
    """A task from scratch, or from the pre-trained run."""
    row, config, metric, changes = TASKS[name]
    prior = likeliest_answer if name == "vqa" else ""
    words = "pre-trained" if start else "scratch"
    return Trial(
        f"{name}/{model}/{words}",
        "configs/" + config.format(model),
        (Cell(row, f"{MODELS[model]}, {words}", metric, prior),),
        changes,
        start=start,
        against=f"{name}/{model}/scratch" if start else "",
    )


TABLE = Table(
    "What pre-training brings, embedded data, test images",
    (
        *(pretraining(model) for model in MODELS),
        *(
            task(name, model, start)
            for name in TASKS
            for model in MODELS
            for start in ("", f"pretrain/{model}")
        ),
        *(words(model) for model in MODELS),
    ),
    corner="%",
    notes="Visual gain: marked words filled in with the image's own regions, less with another's; "
    "words of a kind: right among the words of the kind. Prior is what guessing reaches: VQA, the "
    "most frequent training answer to questions of the type; words, NLVR2 and the choices, the "
    "most frequent answer; referring expressions, the best fixed guess; retrieval, chance.",
)
