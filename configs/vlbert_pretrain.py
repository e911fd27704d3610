"""VL-BERT pre-training: masked words with visual clues, masked regions, text-only rows.

  python main.py --config=configs/vlbert_pretrain.py                        # embedded data, CPU
  python main.py --config=configs/vlbert_pretrain.py:size=mini,data=jsonl \
      --config.data.annotations=train.jsonl --config.data.eval_annotations=validation.jsonl \
      --config.data.regions=store
  python main.py --config=configs/vlbert_pretrain.py:size=base,data=jsonl ...  # the paper's sizes
  python main.py --config=configs/vlbert_pretrain.py:size=base,data=jsonl,features=pixels \
      --config.data.pictures=PICTURES --config.init=bert-base-uncased \
      --config.init_vision=resnet101-pt-vgbua-0000.model ...       # end to end, docs/pixels.md

How the paper's learning rate is reached: the original writes 1e-7 in its file and multiplies by
the 256 rows of a global batch (128 captions + 128 text rows): 2.56e-5, written out below.

Arguments:
  data: "scenes", or one's own ("jsonl"), or a data set of captions.
  features: of regions, of the "store" or of the "pixels" of pictures, by convolutions that are
    trained as well.
"""

from configs import common, models

ARGUMENTS = dict(
    size=("mini", tuple(models.SIZES)),
    data="scenes",
    features=("store", ("store", "pixels")),
)
# Of captions with 10 to 36 regions, or 10 to 100, or 36, three sizes beside the paper's leave 16, 6
# or 8 % of padding where it has 41, 15 or 21 (benchmarks/padding.py). With [END], rows have 32, 48
# and 56 positions.
BUCKETS = ((31, 31, 31), (47, 47, 47), (55, 55, 55))


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    cpu = args.size in models.CPU_SIZES
    config = common.pretraining(
        model=models.block("vlbert", args.size),
        args=args,
        streams=dict(
            # batch_size=0 turns a stream off.
            captions=common.stream_block(
                ("masked_language", "masked_region"), batch_size=64 if cpu else 128
            ),
            text=common.stream_block(
                ("masked_language",), batch_size=0 if cpu else 128, images=False
            ),
        ),
    )
    if cpu and args.data == "scenes":
        config.optimizer.lr = 1.5e-3
    if not cpu:
        config.optimizer.lr = 2.56e-5
        config.optimizer.warmup_steps = 16000
        config.total_steps = 250_000
        config.streams.captions.update(resize=(600, 1000), flip="boxes")
        if args.features == "store":
            config.streams.captions.buckets = BUCKETS
    if args.features == "pixels":
        models.see(config, args.size, flip="off" if cpu else "boxes")
        if cpu and args.data == "scenes":
            _from_scratch(config)
    return config


def _from_scratch(config) -> None:
    """Small convolutions that learn with the words: an object of the scenes is some 20 pixels."""
    config.streams.captions.update(batch_size=32, resize=(224, 224))
    config.total_steps = 3000
    config.eval_every = config.checkpoint.every = 1000
