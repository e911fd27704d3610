"""NLVR2: is a sentence true of two images?

  python main.py --config=configs/nlvr2.py:model=vilbert                    # embedded data, CPU
  python main.py --config=configs/nlvr2.py:model=vilbert,size=base,data=nlvr2 \
      --config.data.manual_dir=nlvr2_files --config.data.regions=nlvr2_store --config.init=...

The sentence is read with either image, and the two pooled states side by side are classified.

Where the original (12-in-1) does otherwise: it joins the regions of both images and cuts them in
halves, which is right only where each has exactly 101; here each image has its own.

Arguments:
  model: "vilbert" (12-in-1), or "vlbert".
  data: "scenes", whose statements are about two scenes, or "nlvr2".
  preset: see configs/presets.py.
"""

from configs import common, finetuning, models, presets

ARGUMENTS = dict(
    model=("vilbert", ("vlbert", "vilbert")),
    size=("mini", tuple(models.SIZES)),
    data=("scenes", ("scenes", "nlvr2")),
    preset=("", presets.NAMES),
)


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    recipe = presets.find("nlvr2", args.model, args.preset)
    config = finetuning.classification(
        args,
        recipe,
        classes=2,  # false, true
        images=2,
        classifier="transform",
        loss="sigmoid",  # of either class, as the original; "softmax" is the same but for scale
        head="nlvr2",
    )
    if args.data == "scenes":
        config.data.records = "statements"
        finetuning.embedded(config, args, "nlvr2")
    else:
        config.data.train_split, config.data.eval_split = "train", "dev"
    if args.size not in models.CPU_SIZES:
        presets.schedule(config, recipe, examples=presets.EXAMPLES["nlvr2"], head="nlvr2")
    return config
