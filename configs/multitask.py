"""Several tasks at once, one model (12-in-1, CVPR 2020): any of them, on any mixture.

  python main.py --config=configs/multitask.py:model=vilbert                # embedded data, CPU
  python main.py --config=configs/multitask.py:model=vilbert,tasks=vqa+nlvr2,schedule=sampled
  python main.py --config=configs/multitask.py:model=vilbert,size=base,data=official \
      --config.streams.vqa.data.manual_dir=vqa_files ... --config.init=runs/vilbert_base
  python main.py --mode=eval --config=configs/multitask.py:model=vilbert,tasks=vqa \
      --config.init=runs/multitask                  # one task of a run of several

Each task is a stream laid out as its own config lays it out (configs/vqa.py and so on): data,
lengths, batch, objective, head. Heads of a group are shared, as published: Visual Genome QA has
VQA's (one list of answers: --config.streams.vqa.data.answers), the retrieval data sets have one,
with VCR's, and so have the referring expressions, with pointing. See docs/multitask.md.

Where the released code does otherwise (`released=true` does as it does):

- It steps its learning rate after the first update of a round, half a round late: each round has
  one rate here (stream_schedule.rate).
- Its unused heads are moved on by decaying moments: untouched here (stream_schedule.unused_heads).
- It takes the number of epochs of the last task for all, and the longest pass for what it calls
  the median: `epoch` names which pass an epoch has.
- It resets all controllers after the sixth and the eighth epoch, whatever the learning rate does.
- Its controllers of retrieval see test images: validation images here, as everywhere.

Arguments:
  model: "vilbert" or "vlbert".
  tasks: "all", a group ("vocab_vqa", "retrieval", "referring", "verification", "reasoning"), or
    names joined by "+"; also "pretraining", captions with the pre-training objectives.
  data: "scenes", or "official", the twelve data sets (and VCR, by name).
  schedule: "stop_and_go" (12-in-1; a single task never rests), "round_robin", "sampled", or
    "summed": one update with the losses of all tasks.
  epoch: of official data, rounds of an epoch: the longest pass over a task ("max"), "median" or
    "min".
  task_tokens: whether ViLBERT has a token for each task.
  dynamic_attention: whether the text scales ViLBERT's queries and keys of the image.
  released: the released code's accidents.
"""

import statistics
from collections.abc import Mapping

from ml_collections import ConfigDict

from configs import (
    common,
    models,
    presets,
    twelve_in_one,
    vilbert_pretrain,
    vlbert_pretrain,
)
from configs.task_table import OFFICIAL, PRETRAINING, TASKS, chosen
from input_pipeline.datasets import options as datasets

TASK_ROWS = 20  # of ViLBERT's task table; a task has the row of its number in the release
SCENES_ROUNDS = 800
# Steps between evaluations on scenes, which the controllers hear.
SCENES_EVERY = 100
SCHEDULES = {"stop_and_go": "stop_and_go", "round_robin": "round_robin", "sampled": "sampled",
             "summed": "all"}  # fmt: skip

ARGUMENTS = dict(
    model=("vilbert", ("vilbert", "vlbert")),
    size=("mini", tuple(models.SIZES)),
    tasks="all",
    data=("scenes", tuple(TASKS)),
    schedule=("stop_and_go", tuple(SCHEDULES)),
    epoch=("max", ("max", "median", "min")),
    task_tokens=True,
    dynamic_attention=False,
    released=False,
)


def get_config(arg: str | None = None):
    """The config for `arg`, the text after the colon of --config."""
    args = common.parse_arg(arg, **ARGUMENTS)
    names = chosen(args.tasks, args.data)
    singles = {name: _single(name, args) for name in names}
    parts = [_part(name, single, args) for name, single in singles.items()]
    config = common.experiment(
        _model(args, singles),
        singles[names[0]].data.dataset,
        {name: stream for part in parts for name, stream in part["streams"].items()},
        {name: block for part in parts for name, block in part["objectives"].items()},
        {name: block for part in parts for name, block in part["evals"].items()},
    )
    known = TASKS[args.data]
    for name, single in singles.items():
        _own_data(config.streams[name].data, single)
        if name in known:
            if args.data == "official":
                _published_data(config.streams[name].data, name)
            config.streams[name].score = "evals/" + known[name].score.format(name)
            row = twelve_in_one.RECIPES[known[name].published].number
            config.streams[name].task = row if config.model.get("tasks") else 0
        else:
            config.streams[name].score = f"evals/{name}/mlm_accuracy"
    if {"vqa", "visual_genome_qa"} <= set(names):  # one head, one list
        answers = config.streams.vqa.data.get_oneway_ref("answers")
        config.streams.visual_genome_qa.data.answers = answers
    if args.data == "official":
        config.data.leaks = "drop"  # images that any task is evaluated on
    kind = SCHEDULES[args.schedule]
    if len(names) == 1 and kind == "stop_and_go":
        kind = "round_robin"  # there is nothing to make room for
    config.stream_schedule.update(kind=kind, order=tuple(names))
    if args.released:
        config.stream_schedule.update(unused_heads="released", rate="released")
    config.checkpoint.best = "tasks/mean"
    if args.data == "official":
        _train_officially(config, args, names)
    else:
        _train_on_scenes(config, args)
    return config


def rounds_of_epoch(passes: Mapping[str, int], which: str) -> int:
    """Rounds of an epoch.

    Args:
      passes: {task: batches that hold each of its examples once}.
      which: "max", "median" or "min" of them.
    """
    of = {"max": max, "median": statistics.median_low, "min": min}[which]
    return int(of(passes.values()))


def _single(name: str, args) -> ConfigDict:
    """The config of a task by itself."""
    if name == PRETRAINING:
        module = vilbert_pretrain if args.model == "vilbert" else vlbert_pretrain
        return module.get_config(f"size={args.size}" + ",data=jsonl" * (args.data != "scenes"))
    task = TASKS[args.data][name]
    return task.config.get_config(f"model={args.model},size={args.size},{task.arguments}")


def _part(name: str, single: ConfigDict, args) -> dict:
    """{"streams", "objectives", "evals"} of a task, under names of its own."""
    old = "captions" if name == PRETRAINING else "examples"
    stream = single.streams[old].to_dict()
    data = stream.pop("data")
    # A task's first objective has its name, and the heads those of the published model.
    first = stream["objectives"][0]
    named = {first: name} | {n: f"{name}_{n}" for n in stream["objectives"][1:]}
    if name == PRETRAINING:
        named = {n: n for n in stream["objectives"]}
    objectives = {}
    for one, new in named.items():
        block = single.objectives[one].to_dict()
        objectives[new] = block | dict(head=block["head"] or one)
    stream.update(
        data=dict(dataset=data["dataset"]),
        objectives=tuple(named[one] for one in stream["objectives"]),
    )
    evals = {}
    for evaluation, block in single.evals.items():
        if block.stream != old or (name == PRETRAINING and evaluation != "validation"):
            continue
        block = block.to_dict() | dict(stream=name)
        if "head" in block:
            block["head"] = named[block["head"]]
        evals[name if evaluation == "validation" else f"{name}_{evaluation}"] = block
    return dict(streams={name: stream}, objectives=objectives, evals=evals)


def _model(args, singles: dict[str, ConfigDict]) -> dict:
    """The model block that all tasks can be read from."""
    pooler = any(single.model.get("pooler", False) for single in singles.values())
    made = models.block(args.model, args.size, pooler=pooler)
    if args.model == "vilbert":
        made.update(
            tasks=TASK_ROWS if args.task_tokens else 0, dynamic_attention=args.dynamic_attention
        )
    return made


def _own_data(block: ConfigDict, single: ConfigDict) -> None:
    """Gives a stream's data what its own config says otherwise than the data set's defaults."""
    usual = ConfigDict(datasets.of(single.data.dataset))
    for field, value in single.data.items():
        if not isinstance(value, ConfigDict) and value != usual[field]:
            block[field] = value


def _published_data(block: ConfigDict, name: str) -> None:
    """Gives a stream's data the splits and options of the published task."""
    files = twelve_in_one.FILES[name]
    block.update(
        train_split=files.train,
        eval_split=files.validation,
        test_split=files.test,  # no task trains on its images
        **files.options,
    )


def _train_on_scenes(config: ConfigDict, args) -> None:
    """A short run on a CPU, with evaluations of what the data has."""
    cpu = args.size in models.CPU_SIZES
    for name in config.evals:
        if config.evals[name].evaluator == "ranking":
            config.evals[name].first = 50
    if cpu:
        config.optimizer.update(lr=1e-3, b2=0.98, clip_norm=5.0)
    else:
        config.dtype = "bfloat16"
    steps = len(config.streams) if args.schedule == "sampled" else 1  # of a round
    every = SCENES_EVERY * steps
    config.total_steps = SCENES_ROUNDS * steps
    config.log_every = every // 2
    config.eval_every = config.checkpoint.every = every


def _train_officially(config: ConfigDict, args, names: list[str]) -> None:
    """The published optimizer, rates as weights of losses, epochs, an evaluation a pass."""
    tasks = [name for name in names if name in OFFICIAL]
    if not tasks or args.size in models.CPU_SIZES:
        _train_on_scenes(config, args)
        return
    table = {name: twelve_in_one.RECIPES[name] for name in tasks}
    rate = twelve_in_one.rate(tasks)
    config.dtype = "bfloat16"
    config.optimizer.update(lr=rate, **twelve_in_one.OPTIMIZER)
    rated = {config.objectives[name].head for name in tasks if twelve_in_one.head_rate(name)}
    if rated:
        pattern = f"heads/({'|'.join(sorted(rated))})/.*"
        config.optimizer.multipliers = ((pattern, twelve_in_one.RATE_OF_HEADS / rate),)
    passes = {}
    for name, row in table.items():
        config.streams[name].batch_size = row.batch
        config.objectives[name].weight = twelve_in_one.loss_scale(name, tasks)
        passes[name] = max(1, _examples(name) // row.batch)
    epochs, rounds = twelve_in_one.EPOCHS, rounds_of_epoch(passes, args.epoch)
    if args.released:  # the last task's epochs for all
        epochs = table[tasks[-1]].epochs
        config.stream_schedule.stop_and_go.resets = (6 * rounds, 8 * rounds)
    if args.schedule == "sampled":  # one update a step
        rounds = sum(passes.values())
    config.total_steps = epochs * rounds
    config.optimizer.warmup_steps = int(twelve_in_one.WARMUP * config.total_steps)
    config.log_every = 100
    config.eval_every = config.checkpoint.every = rounds
    intervals = []
    for name, block in config.evals.items():
        if block.evaluator == "ranking":
            intervals.append((name, config.total_steps))
        elif args.schedule != "sampled" and block.stream in passes:
            intervals.append((name, passes[block.stream]))
    config.eval_intervals = tuple(intervals)


def _examples(name: str) -> int:
    """Training examples of a published task."""
    dataset = twelve_in_one.FILES[name].dataset
    return presets.EXAMPLES[name if name in presets.EXAMPLES else dataset]
