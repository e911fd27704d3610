"""Visual question answering: VQA v2, Visual Genome QA, GQA, and the embedded data's questions.

  python main.py --config=configs/vqa.py:model=vlbert                       # embedded data, CPU
  python main.py --config=configs/vqa.py:model=vlbert,size=mini,data=vqa \
      --config.data.manual_dir=vqa_files --config.data.regions=store
  python main.py --config=configs/vqa.py:model=vilbert,size=base --config.init=runs/vilbert_base ...

Arguments:
  model: "vlbert" reads the state of a masked answer word, "vilbert" and its baseline
    "single_stream" the pooled state.
  data: "scenes", "vqa", "gqa" or "visual_genome_qa".
"""

from configs import common, models

# Of train2014 and val2014: an epoch is 2,571 batches of 256.
QUESTIONS = 658_111


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(
        arg,
        model=("vlbert", ("vlbert", "vilbert", "single_stream")),
        size=("mini", tuple(models.SIZES)),
        data=("scenes", ("scenes", "vqa", "gqa", "visual_genome_qa")),
    )
    cpu, vlbert = args.size in models.CPU_SIZES, args.model == "vlbert"
    stream = common.stream_block(("vqa",), batch_size=64 if cpu else 256)
    # Every region and nearly every question whole (the originals': all, and 23 pieces).
    stream.update(max_text=32, max_regions=101, max_length=133, order="stored")
    config = common.finetuning(
        args,
        stream,
        dict(
            vqa=dict(
                weight=1.0,
                form="masked_answer" if vlbert else "pooled",
                # "transform", or VL-BERT's "1fc" and "2fc", or ViLBERT's first: "weight_norm"
                classifier="weight_norm" if args.model == "single_stream" else "transform",
                width=0,  # between the layers; 0: the state's, twice that in the pooled form
                dropout=0.1 if vlbert else 0.0,  # ViLBERT's is in its trunk
                head="gqa" if args.data == "gqa" else "vqa",  # parameters; lists of answers differ
            )
        ),
        metric="vqa_accuracy",
    )
    splits = {
        "scenes": ("train", "validation"),
        "vqa": ("trainval", "minival"),  # the latter: the last 3,000 questions of val2014
        "gqa": ("train_balanced", "testdev_balanced"),
        "visual_genome_qa": ("train", "val"),
    }
    config.data.train_split, config.data.eval_split = splits[args.data]
    if args.data == "scenes":
        config.data.task = "questions"
        config.streams.examples.update(max_text=24, max_regions=8, max_length=32)
    else:
        config.data.leaks = "drop"  # the cut between such splits goes through an image
    if cpu:
        return config
    if vlbert:
        # The original writes 6.25e-7 and multiplies by the global batch of 256.
        common.schedule(config, examples=QUESTIONS, epochs=5, lr=1.6e-4, warmup=500)
        config.streams.examples.resize = (600, 1000)
    else:
        common.schedule(config, examples=QUESTIONS, epochs=20, lr=4e-5, warmup=0.1)
    return config
