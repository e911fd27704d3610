"""12-in-1's multi_task_model.bin with all heads: into our layout, into single tasks, and back."""

import dataclasses
import importlib
import json

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from checkpoints import convert, export, published_model, sources, transfer
from configs import models
from input_pipeline.schema import SpecialIds
from objectives import base
from objectives.model import MultiTaskModel
from training.planning import assumed
from vl_models import loading
from vl_models.heads import HeadSpec
from vl_models.published import names, translate

VQA, GQA = [f"v{i}" for i in range(3129)], [f"g{i}" for i in range(1533)]
HEADS = ("vqa", "gqa", "ranking", "nlvr2", "entailment", "grounding")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A tiny file of the published layout with task tokens and every head; its state dict."""
    golden = golden_files.Golden(golden_files.files("vilbert_vl_tasks_task_tokens.npz")[0])
    state = golden.state_dict(dict(translate.ALIASES["vilbert"]))
    folder = tmp_path_factory.mktemp("published")
    # Files that were resumed from several devices say so in their names.
    save_file({f"module.{n}": x for n, x in state.items()}, folder / "multi_task_model.safetensors")
    pieces = [f"piece{i}" for i in range(golden.meta["vocab_size"])]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    for name, answers in (("vqa", VQA), ("gqa", GQA)):
        (folder / f"{name}.json").write_text(json.dumps(answers))
    return folder / "multi_task_model.safetensors", state


@pytest.fixture(scope="module")
def source(file):
    return sources.open_source(str(file[0]))


def same(found, state):
    """Whether two state dicts are equal but for what the published code never uses."""
    return sorted(found) == sorted(state) and all(
        np.array_equal(found[name], x) for name, x in state.items() if "q_dense" not in name
    )


def test_the_layout_has_every_head(file):
    _, state = file
    modules = {name.split(".")[0] for name in state} - {"bert", "cls"}
    assert modules == {
        "vil_prediction", "vil_prediction_gqa", "vil_logit", "vil_binary_prediction",
        "vil_tri_prediction", "vision_logit", "linguisic_logit",
    }  # fmt: skip
    assert "bert.embeddings.task_embeddings.weight" in state
    rules = {rule.torch for rule in names.RULES["vilbert"]}
    assert {name for name in state if name.split(".")[0] in modules} <= rules


def test_into_a_folder_with_both_answer_lists_and_back(file, tmp_path, capsys):
    path, state = file
    lists = f"{path.parent / 'gqa.json'},{path.parent / 'vqa.json'}"
    out = tmp_path / "shared"
    assert convert.main([str(path), f"--out={out}", f"--answers={lists}", "--heads=4"]) == 0
    found = sources.open_source(str(out))
    assert found.heads["vqa"].names == tuple(VQA)
    assert found.heads["gqa"].names == tuple(GQA)
    assert found.heads["nlvr2"].names == ("False", "True")
    assert found.heads["entailment"].names == ("contradiction", "neutral", "entailment")
    assert found.config["model"]["tasks"] == 20
    capsys.readouterr()
    back = tmp_path / "back.safetensors"
    assert convert.main([str(out), f"--torch={back}"]) == 0
    told = capsys.readouterr()
    assert same(load_file(back), state)
    assert "starts it anew" not in told.out
    assert not told.err
    assert convert.main([str(path), f"--out={tmp_path}/x", f"--answers={lists},{lists}"]) == 1
    assert "of one length" in capsys.readouterr().err
    (tmp_path / "short.json").write_text('["a", "b"]')
    args = [str(path), f"--out={tmp_path}/x", f"--answers={tmp_path}/short.json"]
    assert convert.main(args) == 1
    assert "the list 2" in capsys.readouterr().err


# A task's config, and what of the file its head is.
SINGLE = {
    "vqa:data=vqa": ("vqa", "vil_prediction"),
    "vqa:data=visual_genome_qa": ("vqa", "vil_prediction"),
    "vqa:data=gqa": ("gqa", "vil_prediction_gqa"),
    "retrieval:data=coco_captions": ("ranking", "vil_logit"),
    "retrieval:data=flickr30k": ("ranking", "vil_logit"),
    "refcoco:data=refcoco": ("grounding", "vision_logit"),
    "pointing:data=visual7w": ("grounding", "vision_logit"),
    "pointing:data=guesswhat": ("grounding", "vision_logit"),
    "nlvr2:data=nlvr2": ("nlvr2", "vil_binary_prediction"),
    "snli_ve:": ("entailment", "vil_tri_prediction"),
    "vcr:data=vcr": ("ranking", "vil_logit"),
    "vcr:data=vcr,task=rationales": ("ranking", "vil_logit"),
}


def task_model(case, source) -> MultiTaskModel:
    """The model of a task's own config, as wide as the file."""
    name, _, arg = case.partition(":")
    config = importlib.import_module(f"configs.{name}").get_config(f"model=vilbert,{arg}")
    block = published_model.block(source, heads=4, image_heads=2)
    config.model.update(block | dict(geometry=models.PUBLISHED["vilbert"]))
    config.streams.examples.update(max_text=16, max_regions=8, max_length=24)
    special, spec = (
        SpecialIds(0, 1, 2, 3, 4, 160),
        dataclasses.replace(assumed.SPEC, feature_dim=64),
    )
    lists = base.OutputLists(answers=tuple(GQA if "gqa" in case else VQA))
    return MultiTaskModel(config, special, spec, {"examples": lists})


def head_shapes(model: MultiTaskModel) -> dict:
    """{head: shapes of its parameters}."""
    sizes = {
        "pooled": model.trunk.pooled_width,
        "regions": model.trunk.region_sizes.hidden,
        "text": model.trunk.sizes.hidden,
    }
    out = {}
    for name, spec in model.head_specs.items():
        (pairs,) = model.pairs.values()
        width = sizes[spec.reads] * (len(pairs) if name == "nlvr2" else 1)
        states = jax.ShapeDtypeStruct((2, width), jnp.float32)
        made = jax.eval_shape(model.heads[name].init, jax.random.key(0), states)
        out[name] = made["params"]
    return out


@pytest.mark.parametrize("case", sorted(SINGLE))
def test_a_single_task_takes_its_head_from_the_file(case, source, file):
    head, published = SINGLE[case]
    model = task_model(case, source)
    assert head in model.head_specs
    trunk = loading.unflatten({k: v for k, v in source.arrays.items() if k.startswith("trunk/")})
    shapes = trunk | {"heads": {head: head_shapes(model)[head]}}
    fitted = transfer.fit(source, shapes, model="vilbert", heads=model.head_specs)
    mapped = {line.path: line for line in fitted.report if line.fate == "mapped"}
    own = [path for path in loading.flatten(shapes) if path.startswith("heads/")]
    assert own
    assert {mapped[path].name.rpartition(".logit_fc")[0] or mapped[path].name.rpartition(".")[0]
            for path in own} == {published}  # fmt: skip
    for path in own:
        np.testing.assert_array_equal(fitted.arrays[path], source.arrays[path])
    assert not [line for line in fitted.report if line.fate == "initial"]
    dropped = {line.name.split(".")[0] for line in fitted.report if line.fate == "dropped"}
    assert {"vil_prediction", "vil_logit", "vision_logit"} - {published} <= dropped
    # So it does from a run of ours over all tasks.
    again = transfer.fit(run_of(source), shapes, model="vilbert", heads=model.head_specs)
    assert again.arrays.keys() == fitted.arrays.keys()
    assert all(np.array_equal(again.arrays[path], x) for path, x in fitted.arrays.items())


def run_of(source, heads=HEADS, **specs):
    """Some of the file's heads as a run of ours with several tasks has them."""
    arrays = {
        path: x
        for path, x in source.arrays.items()
        if path.startswith("trunk/") or path.split("/")[1] in heads
    }
    block = published_model.block(source, heads=4, image_heads=2)
    return dataclasses.replace(
        source,
        place="runs/all",
        kind="run",
        arrays=arrays,
        names={path: path for path in arrays},
        dropped={},
        config={"model": block | dict(geometry=models.PUBLISHED["vilbert"])},
        heads={name: specs.get(name, source.heads[name]) for name in heads},
    )


def test_a_run_over_several_tasks_is_exported_to_the_layout(source, file, tmp_path, capsys):
    _, state = file
    found = export.to_torch(run_of(source), str(tmp_path / "multi_task_model.safetensors"))
    told = capsys.readouterr()
    absent = ("cls.", "linguisic_logit.")
    assert same(found, {n: x for n, x in state.items() if not n.startswith(absent)})
    for module in (
        "cls.predictions (masked_language)",
        "cls.imagePredictions (masked_region)",
        "cls.bi_seq_relationship (alignment)",
        "linguisic_logit (word_grounding)",
    ):
        assert module in told.out
    assert "vil_" not in told.out
    assert not told.err
    again = sources.open_source(str(tmp_path / "multi_task_model.safetensors"))
    assert all(np.array_equal(again.arrays[k], x) for k, x in run_of(source).arrays.items())


def test_what_the_original_cannot_load_is_told(source, tmp_path, capsys):
    few = HeadSpec("linear", "pooled", dict(outputs=2), "labels", ("True", "False"))
    run = run_of(source, ("vqa", "entailment"), entailment=few)
    arrays = dict(run.arrays)
    for part in ("kernel", "bias"):
        arrays[f"heads/entailment/classifier/{part}"] = arrays[
            f"heads/entailment/classifier/{part}"
        ][..., :2]
    arrays["heads/mine/classifier/bias"] = np.zeros(3, np.float32)
    run = dataclasses.replace(run, arrays=arrays)
    found = export.to_torch(run, str(tmp_path / "a.safetensors"))
    told = capsys.readouterr()
    assert "'entailment' has 2 outputs, the original's code 3 in vil_tri_prediction" in told.err
    assert "the head 'mine' is left out" in told.err
    assert found["vil_tri_prediction.bias"].shape == (2,)
    assert "vil_logit (ranking)" in told.out
    turned = HeadSpec("classifier", "pooled", {}, "labels", ("True", "False"))
    export.to_torch(run_of(source, ("nlvr2",), nlvr2=turned), str(tmp_path / "b.safetensors"))
    assert "are True, False, in the original False, True" in capsys.readouterr().err


def test_heads_that_cannot_go_together_are_refused(source, tmp_path):
    run = run_of(source)
    half = {k: x for k, x in run.arrays.items() if not k.startswith("heads/vqa/transform")}
    half = dataclasses.replace(run, arrays=half)
    path = str(tmp_path / "x.safetensors")
    with pytest.raises(sources.SourceError, match=r"(?s)'vqa' is built otherwise.*--without=vqa"):
        export.to_torch(half, path)
    found = export.to_torch(half, path, without=["vqa"])
    assert "vil_logit.weight" in found
    assert not [name for name in found if name.startswith("vil_prediction.")]
    with pytest.raises(sources.SourceError, match=r"(?s)no heads \['answers'\].*'gqa'"):
        export.to_torch(run, str(tmp_path / "y.safetensors"), without=["answers"])
    with pytest.raises(sources.SourceError, match=r"expected \.safetensors or one of \.bin"):
        export.to_torch(run, str(tmp_path / "y.zip"))
    assert not (tmp_path / "y.zip").exists()


def test_the_format_of_the_originals_scripts(source, file, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes .bin files; pip install torch")
    path = tmp_path / "multi_task_model.bin"
    assert convert.main([str(file[0]), f"--torch={path}"]) == 0
    state = torch.load(path, weights_only=True)
    assert same({name: tensor.numpy() for name, tensor in state.items()}, file[1])
    again = sources.open_source(str(path))
    assert all(np.array_equal(again.arrays[k], x) for k, x in source.arrays.items())
