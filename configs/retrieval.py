"""Caption-based image retrieval: COCO, Flickr30k, and the embedded data's captions.

  python main.py --config=configs/retrieval.py:model=vilbert                # embedded data, CPU
  python main.py --config=configs/retrieval.py:model=vilbert,size=base,data=flickr30k \
      --config.data.manual_dir=flickr30k_files --config.data.regions=flickr30k_store
  python main.py --mode=eval --config=configs/retrieval.py:model=vilbert,zero_shot=true \
      --config.init=runs/vilbert_pretrain           # the pre-trained alignment head ranks

Training contrasts a matching pair with three mismatched ones: a caption of a random image,
the caption with a random image, and a caption of an image that looks alike (ViLBERT, section 3.2).
The latter needs a pool of neighbours: --config.streams.examples.distractors=POOL.npz; "random"
draws it from all images. With couples=N each caption chooses among N images and each image among N
captions instead, of which those beside its own come from the pool, or from all images.

Where the original does otherwise:

- vilbert_beta and 12-in-1 rank captions against exactly 1,000 images; here against all of the
  split, or with evals.ranking.folds in parts (COCO's 1K protocol: folds=5; its 5K: folds=1).
- 12-in-1 watches its four-way accuracy on the test images: on validation images here.
- Its pair with a random image keeps regions of the true one beyond the mask: here none remain.

Arguments:
  model: "vilbert", or "vlbert", whose authors did not publish retrieval.
  data: "scenes", "coco_captions", "flickr30k", "flickr8k" or "jsonl".
  zero_shot: rank with the pre-trained alignment head; for --mode=eval. VL-BERT has one only where
    it was pre-trained with the objective.
  couples: captions of a group and images, at least 2; 0: the four pairs above.
  preset: see configs/presets.py.
"""

from configs import common, finetuning, models, presets

SPLITS = {
    "scenes": ("train", "validation"),
    "jsonl": ("train", "validation"),
    "coco_captions": ("karpathy_train+karpathy_restval", "karpathy_val"),
    "flickr30k": ("train", "val"),
    "flickr8k": ("train", "val"),
}

ARGUMENTS = dict(
    model=("vilbert", ("vlbert", "vilbert")),
    size=("mini", tuple(models.SIZES)),
    data=("scenes", tuple(SPLITS)),
    zero_shot=False,
    couples=0,
    preset=("", presets.NAMES),
)


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    cpu, vlbert = args.size in models.CPU_SIZES, args.model == "vlbert"
    recipe = presets.find("retrieval", args.model, args.preset)
    trained = "contrast" if args.couples else "choice"
    objective = "alignment" if args.zero_shot else trained
    stream = common.stream_block((objective,), batch_size=32)  # 128 pairs
    text, regions = recipe["text"], recipe["regions"]
    stream.update(max_text=text, max_regions=regions, max_length=text + regions, order="stored")
    if args.zero_shot:
        stream["negatives"] = True  # alignment is evaluated on another image's caption
        blocks = dict(alignment=common.objective_block("alignment"))
    else:
        stream["distractors"] = "random"  # or a pool of neighbours, .npz
        head = dict(
            dropout=0.1 if vlbert else 0.0,  # ViLBERT's is in its trunk
            head="choice" if vlbert else "ranking",  # 12-in-1 has one for VCR and retrieval
            head_init="alignment" if vlbert else "random",
        )
        if args.couples:
            stream.update(couples=args.couples, batch_size=max(1, 64 // args.couples))
            blocks = dict(contrast=common.objective_block("contrast", couples=args.couples, **head))
        else:
            blocks = dict(choice=common.objective_block("choice", pairs="retrieval", **head))
    config = finetuning.config(
        args,
        stream,
        blocks,
        metric=f"{objective}_accuracy",
        pooler=True,
        evals=dict(
            ranking=dict(
                evaluator="ranking",
                stream="examples",
                split="eval",
                batch_size=16,  # captions per step, over all devices
                images=64,  # images per step: each with each of these captions
                head=objective,
                first=100 if args.data == "scenes" and cpu else 0,  # images; 0: all
                folds=1,  # parts of the images that are ranked by themselves, metrics averaged
                top=20,  # ranked images of a caption that are kept
            )
        ),
        eval_batch_size=32,
    )
    if args.couples and not args.zero_shot:
        # Groups would read every image N times; ranking some images says more.
        with config.unlocked():
            del config.evals["validation"]
        config.checkpoint.best = "evals/ranking/image_retrieval_r1"
    if args.data == "jsonl":
        config.data.records = "retrieve"
    config.data.train_split, config.data.eval_split = SPLITS[args.data]
    if args.data == "scenes":
        finetuning.embedded(config, args, "retrieval")
    if cpu or args.zero_shot:
        return config
    examples = presets.EXAMPLES.get(args.data, presets.EXAMPLES["retrieval"])
    presets.schedule(config, recipe, examples=examples, head=blocks[objective]["head"])
    return config
