"""Small tables of experiments, as a user writes their own."""

from scripts.experimenting.declared import Cell, Table, Trial

SMALL = {
    "data.scenes.train": 24, "data.scenes.validation": 8, "data.scenes.test": 8,
    "data.vocab_size": 600, "model.hidden": 16, "model.layers": 1, "model.intermediate": 32,
    "optimizer.warmup_steps": 1, "total_steps": 2, "eval_every": 2, "checkpoint.every": 2,
}  # fmt: skip
ACCURACY = "validation/grounding_accuracy"


def referring(name, start="", against="", metric=ACCURACY, **more):
    """A trial whose cell stands in the column of its name."""
    changes = SMALL | {"streams.examples.batch_size": 8, "evals.validation.batch_size": 8}
    return Trial(
        name,
        more.pop("config", "configs/refcoco.py:model=vlbert"),
        (Cell("Referring", name, metric, share=more.pop("share", True)),),
        changes | more.pop("changes", {}),
        start=start,
        against=against,
        **more,
    )


GOOD = Table(
    "Two starts",
    (
        referring("scratch"),
        referring("again", start="scratch", against="scratch"),
        referring("as it is", start="scratch", train=False, split="validation"),
    ),
    seeds=2,
)
BAD = Table(
    "Trials that cannot run",
    (
        referring("metric", metric="validation/grounding_acuracy"),
        referring("evaluation", metric="valid/grounding_accuracy"),
        referring("share", share=False),
        referring("validates", validates=("nothing",)),
        referring("value", changes={"optimizer.lr": -1.0}),
        referring("sound"),
    ),
)
