"""VL-BERT pre-training: masked words with visual clues, masked regions, text-only rows.

  python main.py --config=configs/vlbert_pretrain.py                        # embedded data, CPU
  python main.py --config=configs/vlbert_pretrain.py:size=mini,data=jsonl \
      --config.data.annotations=captions.jsonl --config.data.regions=store
  python main.py --config=configs/vlbert_pretrain.py:size=base,data=jsonl ...  # the paper's sizes

How the paper's learning rate is reached: the original writes 1e-7 in its file and multiplies by
the 256 rows of a global batch (128 captions + 128 text rows): 2.56e-5, written out below.
"""

from configs import common

CPU_SIZES = ("mini", "small")


def get_config(arg: str | None = None):
    args = common.parse_arg(arg, size=("mini", tuple(common.SIZES)), data="scenes")
    cpu = args.size in CPU_SIZES
    config = common.run_block()
    config.update(
        model=dict(
            name="vlbert",  # a module of vl_models
            **common.SIZES[args.size],
            pooler=False,  # original: none in pre-training
        ),
        data=common.data_block(args.data),
        streams=dict(
            # batch_size=0 turns a stream off.
            captions=common.stream_block(
                ("masked_language", "masked_region"), batch_size=128 if not cpu else 64
            ),
            text=common.stream_block(
                ("masked_language",), batch_size=0 if cpu else 128, images=False
            ),
        ),
        objectives=dict(
            masked_language=dict(
                weight=1.0,
                rate=0.15,  # of words
                whole_word=True,  # False: of word pieces (ViLBERT)
                cap=0.4,  # gathered positions a row, as a share of max_text
                normalize="mean",  # or "per_sample": each example weighs the same
            ),
            masked_region=dict(
                weight=1.0,
                rate=0.15,  # of regions, whole image never
                keep=0.1,  # of those: features stay visible
                normalize="mean",
            ),
            alignment=dict(weight=1.0, rate=0.5),  # of captions swapped; needs model.pooler
        ),
        optimizer=common.optimizer_block(),
        evals=dict(
            validation=dict(evaluator="losses", stream="captions", split="eval", batch_size=64),
            visual_gain=dict(
                evaluator="visual_gain",
                stream="captions",
                split="eval",
                batch_size=64,
                words="probe",  # words only the image can tell; "all" where data does not mark them
                rounds=1,  # masked words drawn an example
            ),
        ),
    )
    config = common.lock(config)
    if args.data != "scenes":
        config.evals.visual_gain.words = "all"
        config.evals.visual_gain.rounds = 5
    if cpu:
        config.optimizer.lr = 1e-3
        config.optimizer.warmup_steps = 100
        config.optimizer.clip_norm = 1.0
        config.total_steps = 1500
        config.streams.captions.update(max_text=24, max_regions=12, max_length=36)
        config.checkpoint.best = "evals/visual_gain/visual_gain"
    else:
        config.optimizer.lr = 2.56e-5
        config.optimizer.warmup_steps = 16000
        config.total_steps = 250_000
        config.dtype = "bfloat16"
        config.log_every = 100
        config.eval_every = config.checkpoint.every = 5000
        config.streams.captions.update(resize=(600, 1000), flip="boxes")
    return config
