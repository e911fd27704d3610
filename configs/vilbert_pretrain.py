"""ViLBERT pre-training: masked words, masked regions, alignment of caption and image.

  python main.py --config=configs/vilbert_pretrain.py                        # embedded data, CPU
  python main.py --config=configs/vilbert_pretrain.py:size=mini,data=jsonl \
      --config.data.annotations=train.jsonl --config.data.eval_annotations=validation.jsonl \
      --config.data.regions=store
  python main.py --config=configs/vilbert_pretrain.py:size=base,data=jsonl ...  # the paper's sizes

Arguments:
  model: "vilbert", or "single_stream", the paper's baseline without co-attention.
  connections: co-attention layers (2, 4, 6, 8 in the papers), each followed by an image layer.
  objective: variants of 12-in-1's release: 0 swaps half of the captions, 1 also drops the other
    targets of swapped rows, 2 swaps none.
  bert_rate: learning rate of the parameters that BERT brings (with --config.init; a run from
    scratch has no use for it), as a fraction of the others'. The
    papers name 0.1; the released code of 12-in-1 meant it, but matched no parameter name.
"""

from configs import common, models

# What comes from BERT: text embeddings and layers, and the masked-language head.
BERT = r"trunk/(embeddings|layer_\d+)/.*|heads/masked_language/.*"

ARGUMENTS = dict(
    model=("vilbert", ("vilbert", "single_stream")),
    size=("mini", tuple(models.SIZES)),
    data="scenes",
    connections=0,  # 0: the size's own
    objective=(0, (0, 1, 2)),
    bert_rate=1.0,
)
# Of captions with 36 regions, or 10 to 100, or 10 to 36, three sizes beside the paper's leave 8, 13
# or 25 % of padding where it has 30, 35 or 48 (benchmarks/padding.py).
BUCKETS = ((16, 24, 40), (16, 37, 53), (24, 37, 61))


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    cpu = args.size in models.CPU_SIZES
    aligned = ("alignment",) if args.objective != 2 else ()
    config = common.pretraining(
        model=models.block(args.model, args.size, connections=args.connections),
        args=args,
        streams=dict(
            captions=common.stream_block(
                ("masked_language", "masked_region", *aligned), batch_size=64 if cpu else 512
            ),
        ),
    )
    config.streams.captions.negatives = bool(aligned)
    if aligned:
        with config.unlocked():
            config.evals.alignment = dict(
                evaluator="alignment", stream="captions", split="eval", batch_size=64
            )
    config.objectives.masked_language.whole_word = False
    config.objectives.masked_region.update(
        target="kl",
        head_norm=True,
        # Released code: overlap="released", image_row="released", and no buckets; it leaves
        # overlaps visible.
        overlap="paper",
    )
    # In a short run every masked word has to be one that the picture can tell.
    embedded = cpu and args.data == "scenes"
    config.objectives.alignment.drop_labels = args.objective == 1 or embedded
    config.optimizer.b2 = 0.98
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.01
    if args.bert_rate != 1.0:
        config.optimizer.multipliers = ((BERT, args.bert_rate),)
    if not cpu:
        config.optimizer.lr = 1e-4  # for the global batch of 512
        config.optimizer.warmup_steps = 6000  # a tenth
        config.optimizer.clip_norm = 0.0
        config.optimizer.no_decay = common.NO_DECAY
        config.total_steps = 60_000  # 10 epochs of 3.1 M captions
        config.streams.captions.update(max_text=36, max_regions=37, max_length=73, buckets=BUCKETS)
    return config
