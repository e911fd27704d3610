"""Pages of made predictions, without a model."""

import random

from evaluation.browser import page
from evaluation.report.details import Details, Row, Section

ANSWERS = ("red", "green", "blue", "yes", "no", "2")
KINDS = {"red": "other", "green": "other", "blue": "other", "yes": "yes/no", "no": "yes/no",
         "2": "number"}  # fmt: skip


def answer(predicted, right, *, confidence=0.5, loss=1.0, lines=(), boxes=(), score=None):
    if score is None and right is not None:
        score = float(right)
    return dict(
        predicted=predicted, right=right, score=score, confidence=confidence, loss=loss,
        lines=[list(line) for line in lines], boxes=[list(box) for box in boxes],
    )  # fmt: skip


def example(name, *answers, text="what is it?", true="red", groups=None, images=None, regions=3):
    return dict(
        stream="examples", id=name, text=text, true=true, groups=groups or {}, regions=regions,
        images=images or [["image", 100, 160]], answers=list(answers),
    )  # fmt: skip


def questions(count, seed=0, skill=0.6):
    """Questions whose truth is the same for every seed, answered by a model of some skill."""
    truth, rng, made = random.Random(0), random.Random(seed), []
    for i in range(count):
        true = truth.choice(ANSWERS)
        regions = truth.randint(2, 30)
        right = rng.random() < skill
        predicted = true if right else rng.choice([one for one in ANSWERS if one != true])
        confidence = rng.uniform(0.4, 1) if right else rng.uniform(0, 0.7)
        text = f"what is thing {i} like?"
        made.append(
            example(
                f"question-{i}",
                answer(
                    predicted, right, confidence=round(confidence, 3),
                    loss=round(rng.uniform(0, 1) + 3 * (not right), 3),
                    lines=[("question", text), ("predicted", predicted), ("true", true)],
                    boxes=[(10, 20, 60, 80, "thing", "predicted"), (15, 25, 70, 90, "", "true")],
                ),
                text=text, true=true, groups={"type of answer": KINDS[true]},
                images=[[f"image-{i // 3}", 100, 160]], regions=regions,
            )
        )  # fmt: skip
    return made


def content(examples, *, name="run", title="run: examples of validation", pictures=None, notes=(),
            place="runs/a"):  # fmt: skip
    rows = [Row("questions answered right", "accuracy", "", "61.0 %", "20.0 %")]
    details = Details([Section("validation", rows)], notes, None, "python main.py", '{"lr": 0.5}')
    return page.content(
        title,
        name,
        examples,
        pictures or {},
        details,
        place=place,
        splits=dict(examples="validation"),
    )
