"""Every config, size and argument loads, builds its model and its optimizer."""

import importlib
import itertools
import pathlib
import re
import types

import jax
import jax.numpy as jnp
import pytest

from configs import models, presets
from core.errors import ConfigError
from input_pipeline.schema import SpecialIds
from objectives import base
from objectives.model import MultiTaskModel
from training import config_checks, optimizer

PARTS = (
    "__init__",
    "common",
    "finetuning",
    "models",
    "presets",
    "printed",
    "task_table",
    "twelve_in_one",
)
MIXTURES = ("multitask",)  # of the others: see test_multitask_config.py
FILES = sorted(
    p.stem
    for p in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py")
    if p.stem not in (*PARTS, *MIXTURES)
)
# More arguments to build a config with; one without an entry is built at every size.
EXTRA = {
    "classify": ("", "model=vilbert", "model=single_stream,classes=3"),
    "nlvr2": ("", "model=vlbert", "data=nlvr2"),
    "pointing": ("", "model=vlbert", "data=guesswhat"),
    "refcoco": (
        "",
        "model=vilbert",
        "data=refcoco",
        "data=jsonl",
        "preset=paper",
        "data=refcoco,features=pixels",
    ),
    "retrieval": (
        "",
        "model=vlbert",
        "data=coco_captions",
        "data=flickr30k,preset=released",
        "zero_shot=true",
        "model=vlbert,zero_shot=true",
        "data=jsonl",
    ),
    "snli_ve": ("", "model=vlbert"),
    "vcr": (
        "",
        "model=vilbert",
        "task=rationales,data=vcr",
        "preset=paper",
        "model=vilbert,task=rationales,preset=released",
        "data=jsonl",
        "data=vcr,features=pixels",
    ),
    "vqa": (
        "",
        "model=vilbert",
        "model=single_stream,data=vqa",
        "data=gqa",
        "model=vilbert,data=visual_genome_qa",
        "data=jsonl",
        "model=vilbert,preset=released",
    ),
    "vlbert_pretrain": ("", "features=pixels"),
    "vilbert_pretrain": (
        "",
        "model=single_stream",
        "objective=1",
        "objective=2",
        "bert_rate=0.1",
        "connections=1",
    ),
}
CASES = [
    (name, ",".join(filter(None, (f"size={size}", data, extra))))
    for name in FILES
    for size, data, extra in itertools.product(
        models.SIZES,
        ("", "data=jsonl") if name.endswith("pretrain") else ("",),
        EXTRA.get(name, ("",)),
    )
    if size in ("mini", "base") or not (data or extra)
]
# Of the deep ones the quick tests build the plain base of each file.
DEPTHS = [
    case if "mini" in arg or arg == "size=base" else pytest.param(*case, marks=pytest.mark.slow)
    for case in CASES
    for arg in case[1:]
]


def batch_of(config):
    """Zeros in the shapes of every stream."""
    out = {}
    for name, block in config.streams.items():
        if not block.batch_size:
            continue
        texts, images = texts_and_images(config, block)
        ids = jnp.zeros((2, texts, block.max_text), jnp.int32)
        out[name] = dict(text_ids=ids, text_mask=ids > 0, segment_ids=ids, word_starts=ids > 0,
                         _weight=jnp.ones(2), label=jnp.zeros((2, 1), jnp.int32))  # fmt: skip
        if block.images:
            r = block.max_regions
            out[name] |= dict(
                regions=jnp.zeros((2, images, r, 32)), boxes=jnp.zeros((2, images, r, 4)),
                region_mask=jnp.zeros((2, images, r), bool), image_size=jnp.ones((2, images, 2)),
                num_detected=jnp.ones((2, images), jnp.int32),
                region_label=jnp.zeros((2, 1, r), jnp.int32),
            )  # fmt: skip
            if config.model.get("features") == "pixels":
                del out[name]["regions"]
                out[name]["images"] = jnp.zeros((2, images, 64, 80, 3), jnp.uint8)
        marks = {"phrase_grounding": "phrase_region", "masked_word": "probe_kind"}
        out[name] |= {key: ids for one, key in marks.items() if one in block.objectives}
        if "vqa" in block.objectives:
            out[name]["answer_position"] = jnp.zeros((2, 1), jnp.int32)
        if "grounding" in block.objectives:
            out[name]["region_iou"] = jnp.zeros((2, 1, block.max_regions))
    return out


def texts_and_images(config, block):
    """(K, M) of a stream's examples."""
    if "choice" in block.objectives:
        choice = config.objectives.choice
        return (3, 2) if choice.pairs == "retrieval" else (choice.choices, 1)
    images = config.objectives.classification.images if "classification" in block.objectives else 1
    return (2 if block.negatives else 1), images


def check_decay_and_rates(config, made):
    """Decayed are weights alone, or everything; only the task's head has a rate of its own."""
    block = config.optimizer
    for path, decay in made.decay.items():
        leaf = path.rpartition("/")[2]
        spared = leaf == "scale" or leaf.endswith(("bias", "gain"))
        assert decay == (0 if block.no_decay and spared else block.weight_decay), path
    other = {path: block.lr * factor for path, factor in made.factor.items() if factor != 1}
    if any(pattern.startswith("heads/") for pattern, _ in block.multipliers):
        assert set(other) == {path for path in made.factor if path.startswith("heads/")}
        assert [*other.values()] == pytest.approx([presets.HEAD_RATE] * len(other))
    elif other:  # what BERT initialises
        theirs = re.compile(r"trunk/(embeddings|layer_\d+)/|heads/masked_language/")
        assert all(map(theirs.match, other))
        assert set(other.values()) == {0.1 * block.lr}


@pytest.mark.parametrize(("name", "arg"), DEPTHS)
def test_config_builds(name, arg):
    config = importlib.import_module(f"configs.{name}").get_config(arg)
    assert config.is_locked
    spec = types.SimpleNamespace(feature_dim=32, num_classes=11, global_feature="mean")
    lists = base.OutputLists(tuple("abcdefg"), labels=tuple("abcde"))
    lists = dict.fromkeys(config.streams, lists)
    task = MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 100), spec, lists)
    params = jax.eval_shape(task.init, jax.random.key(0), batch_of(config))
    made = optimizer.make(config.optimizer, params, config.total_steps)
    assert float(made.rate(config.optimizer.warmup_steps)) == pytest.approx(config.optimizer.lr)
    check_decay_and_rates(config, made)
    named = {f"{s}/{one}" for s in task.streams for one in config.streams[s].objectives}
    assert set(task.loss_scale) == named
    for block in config.evals.values():
        assert block.stream in config.streams


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("size=huge", r"'size' must be one of \['base', 'large', 'mini', 'small'\], found 'huge'"),
        ("sise=mini", "'sise=mini' is not name=value with a name among"),
        ("mini", "'mini' is not name=value"),
    ],
)
def test_wrong_arguments_name_the_right_ones(arg, message):
    config = importlib.import_module("configs.vlbert_pretrain")
    with pytest.raises(ValueError, match=message):
        config.get_config(arg)


def test_only_vlbert_makes_features_of_pictures():
    for name in ("refcoco", "vcr"):
        config = importlib.import_module(f"configs.{name}")
        with pytest.raises(ValueError, match="'features' must be 'store' but for model=vlbert"):
            config.get_config("model=vilbert,features=pixels")


def test_from_pixels_as_the_paper_trains():
    config = importlib.import_module("configs.vcr").get_config("size=base,data=vcr,features=pixels")
    stream, block, vision = config.streams.examples, config.optimizer, config.model.vision
    assert (tuple(stream.resize), stream.flip, config.data.outlines) == ((600, 1200), "boxes", True)
    assert (block.name, block.b1, block.lr, block.clip_norm) == ("sgd", 0.9, 4.48e-3, 10.0)
    assert (tuple(vision.blocks), vision.frozen_stages, vision.dilated) == ((3, 4, 23, 3), 2, True)
    config = importlib.import_module("configs.refcoco").get_config(
        "size=base,data=refcoco,features=pixels"
    )
    assert tuple(config.streams.examples.resize) == (600, 1000)
    assert (config.optimizer.name, config.optimizer.lr) == ("adamw", 2.56e-5)
    config = importlib.import_module("configs.vlbert_pretrain").get_config(
        "size=base,data=jsonl,features=pixels"
    )
    captions = config.streams.captions
    assert (tuple(captions.resize), captions.flip, captions.batch_size) == (
        (600, 1000),
        "boxes",
        128,
    )
    assert config.model.vision.remat


def test_misspelt_fields_are_errors():
    config = importlib.import_module("configs.vlbert_pretrain").get_config()
    with pytest.raises((KeyError, AttributeError)):
        config.optimizer.learning_rate = 1.0
    with pytest.raises(TypeError):
        config.optimizer.lr = "fast"


def test_rows_that_do_not_fit_are_refused():
    config = importlib.import_module("configs.vlbert_pretrain").get_config("data=jsonl")
    spec = types.SimpleNamespace(feature_dim=32, num_classes=11, global_feature="mean")
    config.streams.captions.update(max_length=400, max_text=127)
    with pytest.raises(ValueError, match=r"needs 129 positions, config.model.positions is 128"):
        MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 100), spec)
    config.streams.captions.update(max_length=20, max_text=30)
    with pytest.raises(ValueError, match="max_text 30 must not exceed max_length 20"):
        MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 100), spec)
    config.streams.captions.batch_size = 0
    with pytest.raises(ValueError, match="nothing to train on"):
        MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 100), spec)


def test_a_trunk_that_cannot_be_built_is_told_as_a_setting():
    config = importlib.import_module("configs.vilbert_pretrain").get_config()
    spec = types.SimpleNamespace(feature_dim=32, num_classes=11, global_feature="mean")
    config.model.connect.text_at = (1, 99)
    with pytest.raises(ConfigError, match=r"config\.model\.connect\.text_at must rise within"):
        MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 100), spec)


# What the papers and the released files say of (config, argument at size base): examples of a
# batch, optimizer, learning rate, epochs, warm-up in steps or as a share, clipping, weight decay.
TABLE = {
    ("vqa", "model=vlbert,data=vqa"): (256, "adamw", 1.6e-4, 5, 500, 1.0, 1e-4),
    ("vqa", "model=vlbert,data=vqa,preset=released"): (256, "adamw", 1.6e-4, 5, 500, 1.0, 1e-4),
    ("vqa", "model=vlbert,data=vqa,preset=paper"): (256, "adamw", 1e-4, 20, 2000, 1.0, 1e-4),
    ("vqa", "model=vilbert,data=vqa,preset=paper"): (256, "adamw", 4e-5, 20, 0.1, 0.0, 0.01),
    ("vqa", "model=vilbert,data=vqa,preset=released"): (256, "adamw", 4e-5, 20, 0.1, 0.0, 0.01),
    ("vqa", "model=vilbert,data=vqa"): (128, "adamw", 4e-5, 20, 0.1, 0.0, 0.01),
    ("vqa", "model=vilbert,data=gqa"): (128, "adamw", 4e-5, 20, 0.1, 0.0, 0.01),
    ("vqa", "model=vilbert,data=visual_genome_qa"): (128, "adamw", 4e-5, 20, 0.1, 0.0, 0.01),
    ("vcr", "data=vcr"): (64, "sgd", 4.48e-3, 20, 1000, 10.0, 1e-4),
    ("vcr", "data=vcr,task=rationales"): (64, "sgd", 4.48e-3, 20, 1000, 10.0, 1e-4),
    ("vcr", "data=vcr,preset=paper"): (64, "sgd", 5e-3, 20, 1000, 10.0, 1e-4),
    ("vcr", "model=vilbert,data=vcr,preset=paper"): (64, "adamw", 2e-5, 20, 0.1, 0.0, 0.01),
    ("vcr", "model=vilbert,data=vcr,preset=released"): (64, "adamw", 2e-5, 20, 0.1, 0.0, 0.01),
    ("vcr", "model=vilbert,data=vcr"): (64, "adamw", 2e-5, 10, 0.1, 0.0, 0.01),
    ("refcoco", "data=refcoco"): (32, "adamw", 2.56e-5, 20, 3750, 1.0, 1e-4),
    ("refcoco", "data=refcoco,preset=paper"): (256, "adamw", 1e-4, 20, 500, 1.0, 1e-4),
    ("refcoco", "model=vilbert,data=refcoco,preset=paper"): (
        *(256, "adamw", 4e-5, 20, 0.1, 0.0, 0.01),
    ),
    ("refcoco", "model=vilbert,data=refcoco,preset=released"): (
        *(256, "adamw", 4e-5, 20, 0.1, 0.0, 0.01),
    ),
    ("refcoco", "model=vilbert,data=refcoco"): (256, "adamw", 2e-5, 20, 0.1, 0.0, 0.01),
    ("retrieval", "data=flickr30k,preset=paper"): (64, "adamw", 2e-5, 20, 0.1, 0.0, 0.01),
    ("retrieval", "data=flickr30k,preset=released"): (64, "adamw", 4e-5, 20, 0.1, 0.0, 0.01),
    ("retrieval", "data=flickr30k"): (128, "adamw", 2e-5, 20, 0.1, 0.0, 0.01),
    ("retrieval", "data=coco_captions"): (128, "adamw", 2e-5, 20, 0.1, 0.0, 0.01),
    ("nlvr2", "data=nlvr2"): (64, "adamw", 2e-5, 20, 0.1, 0.0, 0.01),
    ("snli_ve", "data=snli_ve"): (256, "adamw", 2e-5, 20, 0.1, 0.0, 0.01),
    ("pointing", "data=visual7w"): (256, "adamw", 2e-5, 20, 0.1, 0.0, 0.01),
    ("pointing", "data=guesswhat"): (64, "adamw", 2e-5, 20, 0.1, 0.0, 0.01),
}


def at_base(name, arg):
    return importlib.import_module(f"configs.{name}").get_config(f"size=base,{arg}")


@pytest.mark.parametrize(("name", "arg"), TABLE)
def test_presets_are_the_published_numbers(name, arg):
    batch, optimizer_name, lr, epochs, warmup, clip, decay = TABLE[name, arg]
    config = at_base(name, arg)
    data = arg.partition("data=")[2].split(",")[0]
    steps = epochs * presets.EXAMPLES[data] // batch
    block = config.optimizer
    assert config.streams.examples.batch_size == batch
    assert (block.name, block.lr, block.clip_norm) == (optimizer_name, lr, clip)
    assert block.weight_decay == decay
    assert config.total_steps == steps
    assert block.warmup_steps == (warmup if isinstance(warmup, int) else int(warmup * steps))


# (pieces of text, regions) of ViLBERT's task files.
LENGTHS = {
    ("vqa", "model=vilbert,data=vqa"): (23, 101),
    ("vqa", "model=vilbert,data=vqa,preset=released"): (16, 100),
    ("vqa", "model=vilbert,data=gqa"): (26, 101),
    ("vqa", "model=vilbert,data=visual_genome_qa"): (26, 101),
    ("vcr", "model=vilbert,data=vcr"): (60, 101),
    ("vcr", "model=vilbert,data=vcr,task=rationales"): (80, 101),
    ("vcr", "model=vilbert,data=vcr,task=rationales,preset=released"): (80, 100),
    ("vcr", "data=vcr"): (67, 101),  # VL-BERT: 64 pieces beside [CLS] and two [SEP]
    ("refcoco", "model=vilbert,data=refcoco"): (20, 101),
    ("refcoco", "model=vilbert,data=refcoco,preset=released"): (20, 100),
    ("retrieval", "data=flickr30k"): (30, 101),
    ("nlvr2", "data=nlvr2"): (40, 101),
    ("snli_ve", "data=snli_ve"): (56, 101),
    ("pointing", "data=visual7w"): (20, 200),
    ("pointing", "data=guesswhat"): (256, 306),
}


@pytest.mark.parametrize(("name", "arg"), LENGTHS)
def test_lengths_are_the_published_ones(name, arg):
    stream = at_base(name, arg).streams.examples
    assert (stream.max_text, stream.max_regions) == LENGTHS[name, arg]
    assert stream.max_length == sum(LENGTHS[name, arg])


def test_presets_of_optimizer_and_form():
    vcr = at_base("vcr", "data=vcr")
    epoch = 212_923 / 64
    assert vcr.optimizer.schedule == "step"
    assert vcr.optimizer.b1 == 0.9  # momentum
    assert vcr.optimizer.milestones == (int(14 * epoch), int(18 * epoch))
    assert vcr.objectives.choice.loss == "sigmoid"
    assert at_base("vcr", "data=vcr,preset=paper").objectives.choice.loss == "softmax"
    assert vcr.streams.examples.resize == (600, 1200)

    beta = at_base("vqa", "model=vilbert,data=vqa,preset=released")
    epoch = 658_111 / 256
    assert beta.optimizer.milestones == (int(12 * epoch), int(16 * epoch))
    assert not beta.optimizer.correct_bias
    assert beta.objectives.vqa.classifier == "weight_norm"
    # Heads called "vil_" train at 1e-4, those of regions as the rest.
    [(pattern, factor)] = beta.optimizer.multipliers
    assert (pattern, factor * beta.optimizer.lr) == ("heads/vqa/.*", pytest.approx(1e-4))
    assert at_base("refcoco", "model=vilbert").optimizer.multipliers == ()
    [(pattern, factor)] = at_base("snli_ve", "").optimizer.multipliers
    assert (pattern, factor) == ("heads/entailment/.*", pytest.approx(5))
    assert at_base("vqa", "model=vilbert,data=vqa").objectives.vqa.classifier == "transform"


def test_presets_that_were_never_published_are_refused():
    with pytest.raises(ValueError, match=r"one of \['own'\] for vlbert on nlvr2, found 'paper'"):
        at_base("nlvr2", "model=vlbert,preset=paper")
    with pytest.raises(ValueError, match=r"'preset' must be one of.*found 'best'"):
        at_base("vqa", "preset=best")
    with pytest.raises(ValueError, match="'task' must be 'answers' with data=jsonl"):
        at_base("vcr", "task=rationales,data=jsonl")


def test_zero_shot_has_the_head_of_pretraining():
    config = importlib.import_module("configs.retrieval").get_config("zero_shot=true")
    assert config.streams.examples.objectives == ("alignment",)
    assert config.evals.ranking.head == "alignment"


def test_each_model_has_its_original_s_defaults():
    """What differs between the originals in texts and candidates follows the model."""
    from configs import refcoco, vcr

    found = {
        model: (
            refcoco.get_config(f"model={model},data=refcoco").data,
            vcr.get_config(f"model={model},data=vcr,task=rationales"),
        )
        for model in ("vlbert", "vilbert")
    }
    for model, wanted in (
        ("vlbert", ("tokens", "gt", True, "question")),
        ("vilbert", ("raw", "detected", False, "choice")),
    ):
        data, choices = found[model]
        with_and, cut = choices.data.objects_with_and, choices.objectives.choice.cut_first
        assert (data.expression, data.candidates, with_and, cut) == wanted


@pytest.mark.parametrize(
    ("field", "value", "lacking"),
    [
        ("model.name", "vilbert", "connect.text_at"),
        ("data.dataset", "jsonl", "json_keys.image_id"),
        ("streams.examples.data.dataset", "jsonl", "annotations"),
        ("evals.official.evaluator", "ranking", "folds"),
    ],
)
def test_a_block_of_another_kind_lacks_settings(field, value, lacking):
    config = importlib.import_module("configs.vqa").get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match="lacks settings") as told:
        config_checks.check(config)
    for text in (f"config.{field.rpartition('.')[0]}\n", lacking, f"{value!r} without them"):
        assert text in str(told.value)
