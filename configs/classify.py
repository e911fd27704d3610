"""Classes of one's own: a text and an image, one label of a list.

  python main.py --config=configs/classify.py:model=vlbert \
      --config.data.annotations=train.jsonl --config.data.eval_annotations=validation.jsonl \
      --config.data.regions=store

Lines are {"image_id": ..., "text": ..., "label": ...}; see docs/data.md.

Arguments:
  model: "vlbert", "vilbert" or "single_stream".
  data: "jsonl".
  classes: C; 0: as many as the labels in training, or the list data.answers, have.
  preset: see configs/presets.py.
"""

from configs import common, finetuning, models, presets

ARGUMENTS = dict(
    model=("vlbert", ("vlbert", "vilbert", "single_stream")),
    size=("mini", tuple(models.SIZES)),
    data=("jsonl", ("jsonl",)),
    classes=0,
    preset=("", presets.NAMES),
)


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    recipe = presets.find("classify", args.model, args.preset)
    config = finetuning.classification(
        args,
        recipe,
        classes=args.classes,
        images=1,
        classifier="1fc",
        loss="softmax",
        head="classification",
    )
    config.data.records = "classify"
    if args.size not in models.CPU_SIZES:
        presets.schedule(
            config, recipe, examples=presets.EXAMPLES["classify"], head="classification"
        )
    return config
