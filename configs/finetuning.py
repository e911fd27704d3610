"""What the fine-tuning configs share."""

from ml_collections import ConfigDict

from configs import common, models

OWN_REGIONS = 37  # of one's own images at CPU sizes
# (steps, learning rate) at CPU sizes on the embedded data, from a pre-trained run: chosen on
# validation images.
EMBEDDED = dict(
    refcoco=(400, 1e-3),
    vqa=(1000, 1e-3),
    pointing=(400, 1e-3),
    nlvr2=(1200, 1e-3),
    entailment=(1200, 1e-3),
    answers=(600, 1e-3),
    rationales=(600, 3e-4),
    retrieval=(400, 1e-3),
)


def config(
    args,
    stream: dict,
    objectives: dict,
    *,
    metric: str,
    pooler: bool = False,
    evals: dict | None = None,
    eval_batch_size: int = 64,
) -> ConfigDict:
    """A fine-tuning config: one stream, called "examples", and the best checkpoint by one metric.

    Args:
      args: parsed arguments, with `model`, `size` and `data`.
      stream: the stream block.
      objectives: the objective blocks.
      metric: of the evaluation "validation", higher is better.
      pooler: whether VL-BERT has one.
      evals: evaluations beside "validation".
      eval_batch_size: of "validation".
    """
    validation = dict(
        evaluator="losses", stream="examples", split="eval", batch_size=eval_batch_size
    )
    if args.size in models.CPU_SIZES and args.data == "jsonl":
        # Every padded position costs time.
        regions = min(stream["max_regions"], OWN_REGIONS)
        stream.update(max_regions=regions, max_length=stream["max_text"] + regions)
    made = common.experiment(
        models.block(args.model, args.size, pooler=pooler),
        args.data,
        dict(examples=stream),
        objectives,
        dict(validation=validation, **(evals or {})),
    )
    made.checkpoint.best = f"evals/validation/{metric}"
    if args.size in models.CPU_SIZES:
        made.optimizer.update(lr=1e-3, b2=0.98, clip_norm=5.0)
        made.total_steps = 2000
    else:
        made.dtype = "bfloat16"
        made.log_every = 100
        made.eval_every = made.checkpoint.every = 1000
    return made


def embedded(config: ConfigDict, args, task: str, *, text: int = 24, together: int = 32) -> None:
    """Lengths for the embedded data, which are all it needs, and how long a short run takes.

    Args:
      config: of the task, which is changed.
      args: parsed arguments, with `size`.
      task: a key of EMBEDDED.
      text, together: word pieces, and those with the regions.
    """
    config.streams.examples.update(max_text=text, max_regions=8, max_length=together)
    if args.size in models.CPU_SIZES:
        config.total_steps, config.optimizer.lr = EMBEDDED[task]
        config.eval_every = config.checkpoint.every = config.total_steps // 4


def grounding(args, recipe: dict) -> ConfigDict:
    """A config that chooses among the regions of an image.

    Args:
      args: parsed arguments, with `model`, `size` and `data`.
      recipe: of `presets`, with `text` and `regions`.
    """
    vlbert = args.model == "vlbert"
    text, regions = recipe["text"], recipe["regions"]
    stream = common.stream_block(("grounding",), batch_size=64)
    stream.update(max_text=text, max_regions=regions, max_length=text + regions, order="stored")
    block = common.objective_block(
        "grounding",
        classifier="transform" if vlbert else "1fc",
        dropout=0.0 if vlbert else 0.1,
        target="binary" if vlbert else "soft",  # of the overlap with the referred box
        normalize="candidates" if vlbert else "examples",
        hit="at_least_half" if vlbert else "over_half",
    )
    made = config(args, stream, dict(grounding=block), metric="grounding_accuracy")
    if vlbert and args.size not in models.CPU_SIZES:
        made.streams.examples.resize = (600, 1000)
    return made


def classification(args, recipe: dict, **block) -> ConfigDict:
    """A config that classifies a text about one image or two, from the pooled state.

    Args:
      args: parsed arguments, with `model`, `size` and `data`.
      recipe: of `presets`, with `text` and `regions`.
      **block: of the objective: classes, images, classifier, loss, head.
    """
    text, regions = recipe["text"], recipe["regions"]
    stream = common.stream_block(("classification",), batch_size=64 // block["images"])
    stream.update(max_text=text, max_regions=regions, max_length=text + regions, order="stored")
    # ViLBERT's dropout is in its trunk.
    dropout = 0.1 if args.model == "vlbert" else 0.0
    block = common.objective_block("classification", dropout=dropout, **block)
    return config(
        args, stream, dict(classification=block), metric="classification_accuracy", pooler=True
    )
