"""Visual commonsense reasoning: one of four answers, one of four rationales.

  python main.py --config=configs/vcr.py:model=vlbert                       # embedded data, CPU
  python main.py --config=configs/vcr.py:model=vlbert,task=rationales
  python main.py --config=configs/vcr.py:model=vlbert,size=base,data=vcr \
      --config.data.manual_dir=vcr_files --config.data.regions=vcr_store --config.init=...

Answers (Q->A) and rationales (QA->R, given the right answer) are two runs; both right is Q->AR.

Where the originals differ from the papers, or from what one expects:

- VL-BERT's paper has a softmax over the choices, its code four yes or no: `preset` says; the code
  is the default, since its numbers came out of it.
- VL-BERT never pre-trains segment B, and copies A into it: kept (segment_b). Its pooler is
  BERT's own, since its pre-training has none.
- VL-BERT learns the objects' classes beside the choices: kept, the whole image as background.
- VL-BERT names persons by a counter over all examples it happens to read, ViLBERT draws names
  that its cache then freezes: here a name follows from the question's id and the object.
- VL-BERT cuts a question more with each choice, ViLBERT fails on long ones: a choice does not
  change the others here; what is longer is cut. Of an answered question VL-BERT cuts the question
  before the answer, and in its test split nothing at all: kept. ViLBERT cuts its end.
- VL-BERT joins several objects by "and", ViLBERT by nothing: each as it was
  (data.objects_with_and).
- 12-in-1 tokenises word pieces once more ("##ing" becomes "#", "#", "ing"): not here.
- 12-in-1 joins question and answer with [SEP] before a rationale, VL-BERT with nothing: nothing.
- VL-BERT mirrors half of the pictures, and weighs features by the objects' outlines: with
  features=pixels; stored features cannot be mirrored and come without.

Arguments:
  model: "vlbert" or "vilbert".
  task: "answers" or "rationales".
  data: "scenes", "vcr", or "jsonl", one's own questions with choices.
  preset: see configs/presets.py.
  features: of VL-BERT, of the "store" or of the "pixels" of pictures (docs/pixels.md).
"""

from configs import common, finetuning, models, presets

CLASSES = {"scenes": 6, "vcr": 81}  # of objects, the background with them
SCENES_TEXT = {"answers": 28, "rationales": 48}  # the longest have 23 and 44 pieces

ARGUMENTS = dict(
    model=("vlbert", ("vlbert", "vilbert")),
    size=("mini", tuple(models.SIZES)),
    task=("answers", ("answers", "rationales")),
    data=("scenes", ("scenes", "vcr", "jsonl")),
    preset=("", presets.NAMES),
    features=("store", ("store", "pixels")),
)


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    models.require_vlbert(args)
    if args.data == "jsonl" and args.task != "answers":
        raise ValueError("config argument 'task' must be 'answers' with data=jsonl")
    cpu, vlbert = args.size in models.CPU_SIZES, args.model == "vlbert"
    recipe = presets.find("vcr", args.model, args.preset)
    objects = vlbert and args.data in CLASSES
    # 16 questions are 64 sequences.
    stream = common.stream_block(("choice", *["object_class"] * objects), batch_size=16)
    text = recipe["text"] if vlbert else recipe["text"][args.task]
    regions = recipe["regions"]
    stream.update(max_text=text, max_regions=regions, max_length=text + regions, order="stored")
    choice = common.objective_block(
        "choice",
        loss=recipe.get("loss", "softmax"),
        cut_first="question" if vlbert else "choice",
        dropout=0.1 if vlbert else 0.0,  # ViLBERT's is in its trunk
        head="choice" if vlbert else "ranking",
        head_init="alignment" if vlbert else "random",
        segment_b="copy" if vlbert else "as_loaded",
    )
    blocks = dict(choice=choice)
    if objects:
        blocks["object_class"] = common.objective_block("object_class", classes=CLASSES[args.data])
    config = finetuning.config(
        args, stream, blocks, metric="choice_accuracy", pooler=True, eval_batch_size=16
    )
    config.data.records = "choices" if args.data == "jsonl" else args.task
    if args.data == "scenes":
        text = SCENES_TEXT[args.task]
        finetuning.embedded(config, args, args.task, text=text, together=text + 8)
    elif args.data == "vcr":
        config.data.train_split, config.data.eval_split = "train", "val"
        config.data.objects_with_and = vlbert
    if args.features == "pixels":
        models.see(config, args.size, flip="off" if args.data == "scenes" else "boxes")
        if args.data == "vcr":
            config.data.outlines = config.model.vision.dilated
    if cpu:
        return config
    presets.schedule(config, recipe, examples=presets.EXAMPLES["vcr"], head=choice["head"])
    if vlbert:
        config.streams.examples.resize = (600, 1200)
    return config
