"""What the configs share: the blocks every run has, and the argument parser.

A config file takes one argument string, `--config=configs/x.py:size=base,data=jsonl`; any single
field is then overridden by `--config.a.b=value`. A misspelt field or argument is an error.
"""

import difflib
from collections.abc import Iterable

from ml_collections import ConfigDict

from configs import models
from input_pipeline.datasets import options as datasets
from input_pipeline.streams import options as streams
from objectives import options

# What ViLBERT's recipes do not decay: biases, scales of norms, gains of weight-normed layers.
NO_DECAY = (r".*[/_]bias", r".*(norm/scale|_gain)")
# Shares of the kinds of texts with one marked word, see `input_pipeline.datasets.scenes.cloze`:
# colour, shape, size, material, left/right, above/below, place, of plain sentences and of captions.
# Chosen on validation images.
CLOZE = (6.0, 5.0, 6.5, 7.5, 13.0, 13.0, 11.0, 9.0, 7.0, 3.5, 4.0, 4.5, 5.0, 5.0)


def parse_arg(arg: str | None, **choices) -> ConfigDict:
    """Parses "size=base,data=jsonl" against defaults.

    Args:
      arg: the text after the colon of --config, or None.
      **choices: name=default, or name=(default, allowed values).

    Returns:
      A ConfigDict with one typed field per name.

    Raises:
      ValueError: an unknown name, a value outside the allowed ones, or a malformed argument.
    """
    allowed = {k: v[1] for k, v in choices.items() if isinstance(v, tuple)}
    values = {k: v[0] if isinstance(v, tuple) else v for k, v in choices.items()}
    for part in filter(None, (arg or "").split(",")):
        name, equals, text = part.partition("=")
        if not equals or name not in values:
            raise ValueError(
                f"config argument {part!r} is not name=value with a name among {sorted(values)}"
                + _like(name, values)
            )
        kind = type(values[name])
        if kind is bool:
            if text not in ("true", "false"):
                raise ValueError(f"config argument {name!r} must be true or false, found {text!r}")
            values[name] = text == "true"
        else:
            try:
                values[name] = kind(text)
            except ValueError:
                raise ValueError(
                    f"config argument {name!r} must be a number ({kind.__name__}), found {text!r}"
                ) from None
    for name, known in allowed.items():
        if values[name] not in known:
            raise ValueError(
                f"config argument {name!r} must be one of {sorted(known)}, found {values[name]!r}"
                + _like(str(values[name]), map(str, known))
            )
    return ConfigDict(values)


def _like(word: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?" where a known word is like a wrong one."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near and near[0] != word else ""


def data_block(dataset: str) -> dict:
    """The options of a data set and those of all, see `input_pipeline/datasets/options`."""
    return datasets.of(dataset)


def stream_block(
    objectives: tuple[str, ...], batch_size: int, images: bool = True, *, dataset: str = ""
) -> dict:
    """One stream of examples, see `input_pipeline/streams/options`; losses of all streams add.

    Args:
      objectives: names of objectives.
      batch_size: examples of it in the global batch, over all hosts.
      images: False for rows of plain text, from data.corpus.
      dataset: of the stream, where it is another than `config.data.dataset`; `experiment` gives
        each stream its data block.
    """
    data = dict(data=dict(dataset=dataset)) if dataset else {}
    own = dict(images=images, objectives=objectives, batch_size=batch_size)
    return data | streams.OPTIONS | own


def objective_block(kind: str, **changes) -> dict:
    """The options of a kind of objective, see `objectives/options/<kind>.py`, some of them changed.

    Raises:
      ValueError: a change of an option that the kind does not have.
    """
    block = options.of(kind)
    unknown = sorted(set(changes) - set(block))
    if unknown:
        raise ValueError(f"objectives of kind {kind!r} have no {unknown}, only {sorted(block)}")
    return block | changes


def objective_blocks() -> dict:
    """Every pre-training objective under its kind's name; the streams name those that are used."""
    kinds = ("masked_language", "masked_region", "alignment")
    return {kind: objective_block(kind) for kind in kinds}


def optimizer_block() -> dict:
    """AdamW as the originals update (decay after the step, epsilon outside the correction)."""
    return dict(
        name="adamw",  # or "radam", or "sgd", whose momentum is b1
        lr=1e-4,  # peak, for the global batch as it is; never rescaled
        b1=0.9,
        b2=0.999,
        eps=1e-6,
        weight_decay=1e-4,  # times the learning rate, of what `no_decay` does not spare
        correct_bias=True,  # of the moments, for the first steps
        no_decay=(),  # regexes of parameter paths that are not decayed
        freeze=(),  # regexes of parameter paths that do not train
        multipliers=(),  # ((regex, factor of the learning rate), ...), first match wins
        clip_norm=10.0,  # global L2 norm; 0: off
        # Updates in a row that are left out where the loss or its gradient is not finite; one more
        # ends the run. 0: the first one does.
        skip_nonfinite=0,
        schedule="triangle",  # linear up, linear down to 0; or "step"
        warmup_steps=100,  # all steps here are optimizer steps
        milestones=(),  # "step": steps at which the rate is multiplied by `decay`
        decay=0.1,
        accumulate=1,  # microbatches the global batch is split into
    )


def stream_schedule_block() -> dict:
    """Which streams take part in a step, and whether each has an update of its own."""
    return dict(
        # "all": one update with the losses of all streams; "round_robin": one of each (12-in-1);
        # "stop_and_go": the same, but those that no longer get better rest; "sampled": one stream
        # a step.
        kind="all",
        order=(),  # of the streams in a step; those it does not name follow, by their names
        starts=(),  # ((stream, share of total_steps), ...): it takes part from there on
        # "sampled": shares of the streams, ((stream, share), ...); empty: by the batches of a pass,
        # to the power of 1 / temperature. 1: all passes equally often; high: all streams.
        shares=(),
        temperature=1.0,
        # By `score` of the streams; 12-in-1's numbers, whose epochs are evaluations here.
        stop_and_go=dict(
            threshold=0.001,  # a better score is above (1 + threshold) · the best one
            patience=1,  # evaluations in a row without one that do not stop a stream
            cooldown=1,  # evaluations after a stop or a go that count as no failure
            resume=0.005,  # below (1 - resume) · the best, a stopped stream goes on
            gap=4,  # a stopped stream takes part in every gap-th step
            resets=(),  # steps after which all begin anew (released: those of epochs six and eight)
        ),
        # Heads of other streams in the update of one: "untouched"; "released": moved by decaying
        # moments, with gradients of zero.
        unused_heads="untouched",
        # Rates of the updates of a step: "step", the step's; "released": half a step late, the
        # first one has that of the step before.
        rate="step",
    )


def run_block() -> dict:
    """Everything of a run that is not model, data or optimizer."""
    return dict(
        seed=0,  # of initial values, order, masks and dropout
        total_steps=1000,  # optimizer steps; of several updates, where streams have their own
        # Parameters to start from: a run, a folder of checkpoints.convert, a published checkpoint
        # of VL-BERT, ViLBERT or BERT, or a hub name. resume > init > scratch.
        init="",
        init_vocab="",  # vocab.txt of a published file that has none beside it
        # With model.features="pixels", convolutions from elsewhere than `init`: a ResNet in
        # torchvision's names or an end-to-end checkpoint; "scratch": trained from nothing.
        init_vision="",
        # Of a source that is deeper than the model: "all" its layers, which is an error, or the
        # "first" ones, as many as the model has.
        init_layers="all",
        dtype="float32",  # of matrix products; parameters, norms, softmax and losses stay float32
        # What each layer's backward pass computes again, to save memory: "none"; "dots": all but
        # products with parameters; "full": the whole layer.
        remat="none",
        mesh=dict(data=-1, fsdp=1, tensor=1),  # -1: all devices that are left
        # Between steps each device keeps a part of parameters and moments, also along data. False:
        # all of them along data; for models whose update costs less than one more exchange.
        shard_state=True,
        # In which gradients are added up over devices: "bfloat16" sends half.
        reduce_dtype="float32",
        stream_schedule=stream_schedule_block(),
        overfit=0,  # > 0: train on this many fixed examples
        log_every=50,  # steps
        eval_every=500,  # steps
        eval_intervals=(),  # ((name in evals, steps), ...) of those with an interval of their own
        checkpoint=dict(
            every=500,  # steps
            keep=2,  # newest ones, beside the best
            # "evals/<name>/<metric>", higher is better; "tasks/mean", of the streams' scores, each
            # as a share of what guessing leaves; empty: newest only
            best="",
        ),
        # Folder (gs:// too) that keeps compiled programs for the next start; "": none; "auto":
        # JAX_COMPILATION_CACHE_DIR, or the user's own, in $VL_CACHE (~/.cache/vl_models).
        compile_cache="auto",
        profile="",  # "100:110": steps 100 to 109 are traced into WORKDIR/profile
        # No batch placed for so long (0: no watchdog): dump all threads' stacks.
        stall=dict(seconds=900.0, abort=False),  # abort: the job ends then, to be started again
        # --mode=dry_run: a step is compiled and not run; what it needs is printed.
        dry_run=dict(
            # "cpu:8"; TPU slices that need not be there (libtpu is enough): "v5e:4x4",
            # "v5p:2x2x2", "v4:2x2x2", "v6e:2x4"; GPUs by their data sheets: "h100:8", "a100-80:16",
            # "a100-40:8", "h200:8", "b200:8"; empty: the devices there are
            topology="",
            mfu=0.4,  # assumed share of the devices' peak, for the step's time
            hosts=0,  # machines that read the input; 0: as the topology has them
            assume=False,  # True: no data is opened, usual sizes are assumed (and told)
            # "batch", "mesh" or "batch,mesh": plans are tried, the fastest that fits is named
            sweep="",
            batches=(1, 2, 4),  # of a sweep, in multiples of the streams' batch sizes
            meshes=(),  # of a sweep, ((data, fsdp, tensor), ...); empty: a few along fsdp
        ),
        wandb="",  # project on Weights & Biases that the metrics also go to
        predict=dict(
            examples=24,  # shown in WORKDIR/report/index.html; 0: no page, of predictions either
        ),
    )


def experiment(model: dict, data: str, streams: dict, objectives: dict, evals: dict) -> ConfigDict:
    """A whole config around its blocks, locked; `data` names a data set."""
    config = run_block()
    config.update(
        model=model,
        data=data_block(data),
        streams=streams,
        objectives=objectives,
        optimizer=optimizer_block(),
        evals=evals,
    )
    return lock(with_stream_data(config))


def with_stream_data(config: dict) -> ConfigDict:
    """A config in which every stream has a `data` block, which follows `config.data`.

    A field of a stream's block has the value of the same field of `config.data`, until it is given
    one of its own. A stream of another data set has that data set's own options.
    """
    made = ConfigDict(config)
    for stream in made.streams.values():
        dataset = stream.get("data", {}).get("dataset", made.data.dataset)
        if dataset == made.data.dataset:
            stream.data = datasets.following(made.data, made.data.keys())
        else:
            stream.data = datasets.of(dataset)
            stream.data.update(datasets.following(made.data, datasets.SHARED))
            stream.data.dataset = dataset
    return made


def pretraining(model: dict, args, streams: dict) -> ConfigDict:
    """A pre-training config around a model and its streams, locked.

    Args:
      model: the model block.
      args: parsed arguments, with `size` and `data`.
      streams: {name: stream block}; the captions stream is called "captions".
    """
    scenes, cpu = args.data == "scenes", args.size in models.CPU_SIZES
    objectives = objective_blocks()
    # Each stream looks at pictures of its own, and convolutions that learn are most of a step.
    several = scenes and cpu and args.get("features", "store") == "store"
    if several:
        _add_cloze(streams, objectives, model["name"])
        model = model | ({"pooler": True} if "truth" in streams else {})
    elif args.data in datasets.PHRASES or (scenes and cpu):
        _add_pointing(streams["captions"], objectives, model["name"])
    config = experiment(
        model,
        args.data,
        streams,
        objectives,
        dict(
            validation=dict(evaluator="losses", stream="captions", split="eval", batch_size=64),
            visual_gain=dict(
                evaluator="visual_gain",
                stream="captions",
                split="eval",
                batch_size=64,
                # "probe": words that only the image can tell, where the data set marks them
                words="probe" if scenes else "all",
                rounds=2 if scenes else 5,  # draws of masked words per example
                # Regions that the model does not see: "nothing"; "named", those of what the word
                # speaks of; or "objects", all but the whole image
                hidden="nothing",
            ),
        ),
    )
    if cpu:
        # Twice the paper's share of masked words gives a short run twice the signal per example.
        config.objectives.masked_language.rate = 0.3
        config.optimizer.lr = 2e-3
        config.optimizer.b2 = 0.98
        config.optimizer.clip_norm = 5.0
        config.total_steps = 2500
        config.checkpoint.best = "evals/visual_gain/visual_gain"
        # As long as the data needs, since every padded position costs time.
        text, regions, together = (24, 8, 24) if scenes else (32, 24, 48)
        config.streams.captions.update(max_text=text, max_regions=regions, max_length=together)
    else:
        config.dtype = "bfloat16"
        config.log_every = 100
        config.eval_every = config.checkpoint.every = 5000
    if several:
        config.streams.cloze.data.update(records="cloze", weights=CLOZE)
        config.stream_schedule.starts = (("captions", 0.25),)
        if "truth" in streams:
            config.streams.truth.data.update(records="swapped", weights=CLOZE)
            config.stream_schedule.starts = (("captions", 0.45), ("truth", 0.45))
        config.total_steps = 3000
        config.eval_every = config.checkpoint.every = 1000
    return config


def _add_cloze(streams: dict, objectives: dict, model: str) -> None:
    """Texts with one marked word, and words that point at their regions, beside the captions.

    Masked words alone teach late which region a word speaks of, and not with each kind of word.
    VL-BERT, whose captions are not swapped, tells true sentences from false ones as well.

    Args:
      streams: {name: stream block}.
      objectives: {name: objective block}.
      model: its name.
    """
    objectives["masked_word"] = objective_block(
        "masked_language", words="marked", head="masked_language"
    )
    _add_pointing(streams["captions"], objectives, model)
    streams["captions"]["batch_size"] = 24 if model == "vlbert" else 32
    streams["cloze"] = stream_block(("masked_word", "phrase_grounding"), batch_size=48)
    streams["cloze"].update(max_text=24, max_regions=8, max_length=24)
    if model == "vlbert":
        streams["truth"] = stream_block(("alignment",), batch_size=24)
        streams["truth"].update(negatives=True, max_text=24, max_regions=8, max_length=24)


def _add_pointing(captions: dict, objectives: dict, model: str) -> None:
    """Words of a phrase point at the region that shows it; half of VL-BERT's rows tell it instead.

    Args:
      captions: block of a stream whose texts say which boxes they speak of.
      objectives: {name: objective block}.
      model: its name.
    """
    # The states at which the model learns it first, on validation images.
    pointing = dict(states="lower", tagged=0.5) if model == "vlbert" else dict(states="last")
    objectives["phrase_grounding"] = objective_block("phrase_grounding", **pointing)
    captions["objectives"] = (*captions["objectives"], "phrase_grounding")


def lock(tree: dict) -> ConfigDict:
    """A ConfigDict of `tree` in which unknown fields and type changes are errors."""
    config = ConfigDict(tree)
    config.lock()
    return config
