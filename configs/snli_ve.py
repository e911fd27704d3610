"""SNLI-VE: does a picture entail a sentence, contradict it, or neither?

  python main.py --config=configs/snli_ve.py:model=vilbert,data=scenes      # embedded data, CPU
  python main.py --config=configs/snli_ve.py:model=vilbert,size=base \
      --config.data.manual_dir=snli_ve_files --config.data.regions=flickr30k_store --config.init=...

Where the original (12-in-1) does otherwise: it trains pairs on whose relation the annotators did
not agree to be of none of the three; here they are left out of loss and accuracy.

Arguments:
  model: "vilbert" (12-in-1), or "vlbert".
  data: "snli_ve", or "scenes", whose sentences are true, or false by one word.
  preset: see configs/presets.py.
"""

from configs import common, finetuning, models, presets

ARGUMENTS = dict(
    model=("vilbert", ("vlbert", "vilbert")),
    size=("mini", tuple(models.SIZES)),
    data=("snli_ve", ("snli_ve", "scenes")),
    preset=("", presets.NAMES),
)


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    recipe = presets.find("snli_ve", args.model, args.preset)
    config = finetuning.classification(
        args,
        recipe,
        # Contradiction, neutral, entailment; scenes leave nothing open.
        classes=2 if args.data == "scenes" else 3,
        images=1,
        classifier="1fc",
        loss="sigmoid",  # of each class, as the original; "softmax" compares them
        head="entailment",
    )
    if args.data == "scenes":
        config.data.records = "entailment"
        finetuning.embedded(config, args, "entailment")
    else:
        config.data.train_split, config.data.eval_split = "train", "dev"
    if args.size not in models.CPU_SIZES:
        presets.schedule(config, recipe, examples=presets.EXAMPLES["snli_ve"], head="entailment")
    return config
