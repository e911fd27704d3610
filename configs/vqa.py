"""Visual question answering: VQA v2, Visual Genome QA, GQA, and the embedded data's questions.

  python main.py --config=configs/vqa.py:model=vlbert                       # embedded data, CPU
  python main.py --config=configs/vqa.py:model=vlbert,size=mini,data=vqa \
      --config.data.manual_dir=vqa_files --config.data.regions=store
  python main.py --config=configs/vqa.py:model=vilbert,size=base --config.init=runs/vilbert_base ...

Where the originals differ from each other or from what one expects:

- VL-BERT's classifier starts from the masked-language head and the answers' word embeddings: kept.
- VL-BERT mirrors boxes and swaps "left" and "right" beside features that are not mirrored: off.
- The answers of VQA v2's annotators count as they wrote them, though listed answers are normalised:
  kept, both originals' scores are made so (data.answer_form). Other data sets' are normalised.
- Both validate on images that are trained on: here such images are left out of training
  (data.leaks="drop").

Arguments:
  model: "vlbert" reads the state of a masked answer word, "vilbert" and its baseline
    "single_stream" the pooled state.
  data: "scenes", "vqa", "gqa", "visual_genome_qa", or "jsonl", one's own questions.
  preset: see configs/presets.py.
"""

from configs import common, finetuning, models, presets

ARGUMENTS = dict(
    model=("vlbert", ("vlbert", "vilbert", "single_stream")),
    size=("mini", tuple(models.SIZES)),
    data=("scenes", ("scenes", "vqa", "gqa", "visual_genome_qa", "jsonl")),
    preset=("", presets.NAMES),
)


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    vlbert = args.model == "vlbert"
    task = args.data if args.data in presets.RECIPES else "vqa"
    recipe = presets.find(task, args.model, args.preset)
    stream = common.stream_block(("vqa",), batch_size=64)
    text, regions = recipe["text"], recipe["regions"]
    stream.update(max_text=text, max_regions=regions, max_length=text + regions, order="stored")
    head = "gqa" if args.data == "gqa" else "vqa"  # their lists of answers differ
    config = finetuning.config(
        args,
        stream,
        dict(
            vqa=common.objective_block(
                "vqa",
                form="masked_answer" if vlbert else "pooled",
                classifier=recipe.get("classifier", "transform"),
                classifier_init="words" if vlbert else "random",
                dropout=0.1 if vlbert else 0.0,  # ViLBERT's is in its trunk
                head=head,  # name of the parameters
            )
        ),
        metric="vqa_accuracy",
        evals=dict(
            # The official accuracy, by type of question.
            official=dict(evaluator="answers", stream="examples", split="eval", batch_size=64)
        ),
    )
    splits = {
        "scenes": ("train", "validation"),
        "jsonl": ("train", "validation"),
        "vqa": ("trainval", "minival"),  # the latter: the last 3,000 questions of val2014
        "gqa": ("train_balanced", "testdev_balanced"),
        "visual_genome_qa": ("train", "val"),
    }
    config.data.train_split, config.data.eval_split = splits[args.data]
    if args.data == "scenes":
        finetuning.embedded(config, args, "vqa")
    if args.data in ("scenes", "jsonl"):
        config.data.records = "questions"
    else:
        config.data.leaks = "drop"  # the cut between such splits goes through an image
    if args.data == "jsonl":
        config.data.answer_count = 1  # small data: every answer is one
    if args.size in models.CPU_SIZES:
        return config
    presets.schedule(config, recipe, examples=presets.EXAMPLES[task], head=head)
    if vlbert:
        config.streams.examples.resize = (600, 1000)
    return config
