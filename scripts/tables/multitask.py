"""One model for all tasks against one per task, embedded data, test images.

All start from the same pre-trained run. A single task has as many updates as all tasks together and
then that task alone have of it, so that what many tasks bring is not what more updates bring.
"""

from configs import task_table
from scripts.experimenting.declared import Cell, Table, Trial
from scripts.tables import downstream

MODELS = downstream.MODELS
ROUNDS, TUNED = 800, 200  # of all tasks; updates of one task after them
TITLES = dict(
    vqa="VQA, official accuracy",
    retrieval=f"Image retrieval, R@1 of {downstream.IMAGES}",
    refcoco="Referring expressions",
    pointing="Pointing",
    nlvr2="NLVR2",
    entailment="Entailment",
    answers="VCR, Q→A",
    rationales="VCR, QA→R",
)


def metric_of(task: str) -> str:
    """ "<name in evals>/<metric>" that says how well a task is done."""
    return task_table.SCENES[task].score.format(task)


def trial(name: str, model: str, tasks: tuple[str, ...], column: str, **options) -> Trial:
    """A run over some tasks that fills their rows of a column; it is chosen by their scores."""
    return Trial(
        f"{name}/{model}",
        f"configs/multitask.py:model={model},tasks={'+'.join(tasks)}",
        tuple(Cell(TITLES[task], f"{MODELS[model]}, {column}", metric_of(task)) for task in tasks),
        validates=tuple(metric_of(task).split("/")[0] for task in tasks),
        **options,
    )


def trials(model: str) -> list[Trial]:
    """Those of a model, after its pre-training."""
    start, tasks = f"pretrain/{model}", tuple(task_table.SCENES)
    alone = {"total_steps": ROUNDS + TUNED}
    tuned = {
        "total_steps": TUNED,
        "eval_every": TUNED // 4,
        "checkpoint.every": TUNED // 4,
    }
    return [
        *(
            trial(f"single/{task}", model, (task,), "single task", changes=alone, start=start)
            for task in tasks
        ),
        trial("all", model, tasks, "all tasks", changes={"total_steps": ROUNDS}, start=start),
        *(
            trial(
                f"tuned/{task}",
                model,
                (task,),
                "all, then single",
                changes=tuned,
                start=f"all/{model}",
                against=f"single/{task}/{model}",
            )
            for task in tasks
        ),
    ]


TABLE = Table(
    "One model for all tasks, embedded data, test images",
    (
        *(downstream.pretraining(model) for model in MODELS),
        *(one for model in MODELS for one in trials(model)),
    ),
    corner="%",
    notes=f"All start from the pre-trained run. Single task: {ROUNDS + TUNED:,} updates of each. "
    f"All tasks: {ROUNDS:,} rounds of dynamic stop-and-go, one model. Then single: {TUNED:,} "
    "updates of the task from that model. Prior is what guessing reaches.",
)
