"""VL-BERT pre-training: masked words with visual clues, masked regions, text-only rows.

  python main.py --config=configs/vlbert_pretrain.py                        # embedded data, CPU
  python main.py --config=configs/vlbert_pretrain.py:size=mini,data=jsonl \
      --config.data.annotations=train.jsonl --config.data.eval_annotations=validation.jsonl \
      --config.data.regions=store
  python main.py --config=configs/vlbert_pretrain.py:size=base,data=jsonl ...  # the paper's sizes

How the paper's learning rate is reached: the original writes 1e-7 in its file and multiplies by
the 256 rows of a global batch (128 captions + 128 text rows): 2.56e-5, written out below.
"""

from configs import common, models

ARGUMENTS = dict(
    size=("mini", tuple(models.SIZES)),
    data="scenes",
)


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
    return config
