"""Referring expressions: RefCOCO, RefCOCO+, RefCOCOg, and the embedded data's expressions.

  python main.py --config=configs/refcoco.py:model=vlbert                   # embedded data, CPU
  python main.py --config=configs/refcoco.py:model=vlbert,size=base,data=refcoco \
      --config.data.manual_dir=refcoco_files --config.data.regions=coco_store

--config.data.candidates names the protocol: "gt" (annotated boxes), "detected" (MAttNet's), "both",
"both_in_training" (both in training, "detected" otherwise: VL-BERT's detected setting), or
"regions", whatever the store holds. Regions that are none of these boxes are context and cannot be
chosen. `grounding_upper_bound` is the share of expressions for which any candidate is right,
beside `grounding_accuracy`; numbers compare only for the same candidates.

Where the originals differ from each other or from what one expects:

- VL-BERT reads the cleaned words and chooses among the annotated boxes, ViLBERT reads the sentences
  as typed and chooses among the detector's: each model's default (data.expression,
  data.candidates); compare the two with one setting for both.
- VL-BERT mirrors half of the boxes in training and exchanges the pieces left and right, in longer
  words, too: not by default, streams.examples.flip="boxes_and_pieces" does ("boxes_and_words"
  exchanges whole words alone).
- VL-BERT lets rows that pad the batch win: never here. Both let the whole image compete: kept.
- VL-BERT counts an overlap of exactly half as right, ViLBERT does not: each as it was.
- Boxes' last pixels belong to them when overlaps are measured (stream option `iou`): kept.
- 12-in-1 means to add the annotated boxes to the candidates in training, and cuts them off again
  where a detector brought 100: what is in the store competes here.
- ViLBERT learns the overlap itself where it is half or more, VL-BERT yes or no: each as it was.

Arguments:
  model: "vlbert" or "vilbert".
  data: "scenes", "refcoco", or "jsonl", one's own texts and boxes.
  preset: see configs/presets.py.
  features: of VL-BERT, of the "store" or of the "pixels" of pictures (docs/pixels.md); its pictures
    are mirrored, and the pieces left and right exchanged.
"""

from configs import common, finetuning, models, presets

ARGUMENTS = dict(
    model=("vlbert", ("vlbert", "vilbert")),
    size=("mini", tuple(models.SIZES)),
    data=("scenes", ("scenes", "refcoco", "jsonl")),
    preset=("", presets.NAMES),
    features=("store", ("store", "pixels")),
)


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    models.require_vlbert(args)
    recipe = presets.find("refcoco", args.model, args.preset)
    config = finetuning.grounding(args, recipe)
    if args.data == "scenes":
        config.data.records = "expressions"
        finetuning.embedded(config, args, "refcoco")
    elif args.data == "jsonl":
        config.data.records = "ground"
    else:
        config.data.train_split, config.data.eval_split = "train", "val"
        if args.model == "vilbert":
            config.data.update(expression="raw", candidates="detected")
    if args.size not in models.CPU_SIZES:
        presets.schedule(config, recipe, examples=presets.EXAMPLES["refcoco"])
    if args.features == "pixels":
        flip = "off" if args.data == "scenes" else "boxes_and_pieces"
        models.see(config, args.size, flip=flip)
    return config
