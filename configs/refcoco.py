"""Referring expressions: RefCOCO, RefCOCO+, RefCOCOg, and the embedded data's.

  python main.py --config=configs/refcoco.py:model=vlbert                   # embedded data, CPU
  python main.py --config=configs/refcoco.py:model=vlbert,size=base,data=refcoco \\
      --config.data.manual_dir=refcoco_files --config.data.regions=coco_store

The regions of the store are the candidates; `grounding_upper_bound` is the share of expressions
for which any of them is right, beside `grounding_accuracy`. Numbers compare only for the same
candidates: annotated boxes, or a detector's.

Arguments:
  model: "vlbert" or "vilbert".
  data: "scenes" or "refcoco".
"""

from configs import common, models

EXPRESSIONS = 120_191  # of RefCOCO+'s train split


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(
        arg,
        model=("vlbert", ("vlbert", "vilbert")),
        size=("mini", tuple(models.SIZES)),
        data=("scenes", ("scenes", "refcoco")),
    )
    cpu, vlbert = args.size in models.CPU_SIZES, args.model == "vlbert"
    stream = common.stream_block(("grounding",), batch_size=64 if cpu else (32 if vlbert else 256))
    # ViLBERT cuts expressions at 20 pieces; nearly none are longer.
    stream.update(max_text=24, max_regions=101, max_length=125, order="stored")
    config = common.finetuning(
        args,
        stream,
        dict(
            grounding=dict(
                weight=1.0,
                classifier="transform" if vlbert else "1fc",
                dropout=0.0 if vlbert else 0.1,
                target="binary" if vlbert else "soft",  # of the overlap with the referred box
                normalize="candidates" if vlbert else "examples",
                hit="at_least_half" if vlbert else "over_half",
            )
        ),
        metric="grounding_accuracy",
    )
    if args.data == "scenes":
        config.data.task = "expressions"
        config.streams.examples.update(max_text=24, max_regions=8, max_length=32)
    else:
        config.data.train_split, config.data.eval_split = "train", "val"
    if cpu:
        return config
    if vlbert:
        # The original writes 8e-7 and multiplies by the global batch of 32.
        common.schedule(config, examples=EXPRESSIONS, epochs=20, lr=2.56e-5, warmup=3750)
        config.streams.examples.resize = (600, 1000)
    else:
        common.schedule(config, examples=EXPRESSIONS, epochs=20, lr=4e-5, warmup=0.1)
    return config
