"""Pointing: which of several boxes does a question or a dialogue mean? Visual7W and GuessWhat?!

  python main.py --config=configs/pointing.py:model=vilbert,data=scenes     # embedded data, CPU
  python main.py --config=configs/pointing.py:model=vilbert,data=visual7w \
      --config.data.manual_dir=visual7w_files --config.data.regions=visual7w_store

Only the candidates of the question can be chosen. The store needs features of the annotated
boxes; regions of a detector beside them are context.

Where the original (12-in-1) does otherwise:

- It skips exactly 101 rows of a detector to find the candidates, and fails on other counts:
  candidates are found by their boxes here.
- It pads GuessWhat's candidates to 204, whose loss is next to nothing: they have none here.

Arguments:
  model: "vilbert" (12-in-1), or "vlbert".
  data: "visual7w", "guesswhat" (data.games: "all" as in 12-in-1, or "success"), or "scenes", whose
    questions are about places.
  preset: see configs/presets.py.
"""

from configs import common, finetuning, models, presets

SPLITS = {
    "visual7w": ("train", "val"),
    "guesswhat": ("train", "valid"),
    "scenes": ("train", "validation"),
}

ARGUMENTS = dict(
    model=("vilbert", ("vlbert", "vilbert")),
    size=("mini", tuple(models.SIZES)),
    data=("visual7w", tuple(SPLITS)),
    preset=("", presets.NAMES),
)


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    task = "visual7w" if args.data == "scenes" else args.data
    recipe = presets.find(task, args.model, args.preset)
    config = finetuning.grounding(args, recipe)
    config.data.train_split, config.data.eval_split = SPLITS[args.data]
    if args.data == "scenes":
        config.data.records = "pointing"
        finetuning.embedded(config, args, "pointing")
    elif args.size in models.CPU_SIZES:
        text = min(recipe["text"], 96)  # a dialogue's first turns: every position costs time
        length = text + recipe["regions"]
        config.streams.examples.update(max_text=text, max_length=length)
    if args.size not in models.CPU_SIZES:
        presets.schedule(config, recipe, examples=presets.EXAMPLES[task])
    return config
