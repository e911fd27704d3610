"""Options of one's own JSONL files."""

from core.checks import one_of, text
from input_pipeline.datasets.options import shared

RECORDS = ("captions", "retrieve", "classify", "choices", "ground", "questions")

OPTIONS = dict(
    annotations="",  # file(s) of the training examples (or of all, with json_keys.split)
    eval_annotations="",  # file(s) of the validation examples, if not in `annotations`
    records="captions",  # what a line is, see RECORDS
    **shared.ANSWERS,  # of questions; of "classify" the list of classes, or all labels in training
    json_keys=dict(  # what the keys are called in the file
        image_id="image_id",
        text="text",
        split="",  # empty: `annotations` is all training; its values are train_split, eval_split
        id="id",  # of the example, where the lines have one
        label="label",  # classify: int or string; choices: number of the right one, from 0
        choices="choices",  # choices: a list of strings
        box="box",  # ground: x1, y1, x2, y2 in pixels of what the text means
        candidates="candidates",  # ground: boxes to choose from; none: the image's regions
        answers="answers",  # questions: a string or a list of strings
    ),
)
CHECKS = {
    "annotations": text(),
    "eval_annotations": text(),
    "records": one_of(*RECORDS),
    **shared.ANSWER_CHECKS,
    "json_keys.split": text(),
    **{f"json_keys.{key}": text(empty=False) for key in OPTIONS["json_keys"] if key != "split"},
}
