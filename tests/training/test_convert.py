"""Checkpoints in and out: published files, BERT, shared folders; what fits and what does not."""

import dataclasses
import json

import golden_files
import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import inference
from configs import models
from training import convert, published_model, sources, transfer
from vl_models import torch_names

WIDE, DEEP = 48, 3


def published(name, ties=None):
    """(golden file, state dict) of a published model with weights by rule."""
    golden = golden_files.Golden(golden_files.files(f"{name}.npz")[0])
    return golden, golden.state_dict(dict(ties or {}))


def vlbert_batch(golden):
    boxes, text = golden["in/boxes"], golden["in/text"]
    size, width = text.shape
    ids = np.asarray(text, np.int32)
    return dict(
        text_ids=ids[:, None],
        text_mask=(ids > 0)[:, None],
        segment_ids=np.zeros((size, 1, width), np.int32),
        regions=boxes[:, None, :, 4:],
        boxes=boxes[:, None, :, :4],
        image_size=golden["in/im_info"][:, None, 1::-1],
        region_mask=(boxes[..., 0] > -1.5)[:, None],
        region_masked=(golden["in/mvrc_ops"] == 1)[:, None],
    )


@pytest.fixture(scope="module")
def vlbert(tmp_path_factory):
    """A published VL-BERT file, and the same after import as a folder."""
    golden, state = published("vlbert_pretrain_multitask", torch_names.ALIASES["vlbert"])
    folder = tmp_path_factory.mktemp("published")
    prefixed = {f"module.{name}": array for name, array in state.items()}
    extra = {"module.image_feature_extractor.backbone.conv1.weight": np.zeros((2, 3), np.float32)}
    save_file(prefixed | extra, folder / "vl-bert-base-prec.safetensors")
    pieces = [f"piece{i}" for i in range(golden.meta["vocab_size"])]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    return golden, state, folder / "vl-bert-base-prec.safetensors"


def test_published_file_to_folder_to_published_file(vlbert, tmp_path, capsys):
    golden, state, file = vlbert
    heads = golden.meta["num_attention_heads"]
    out = tmp_path / "shared"
    assert convert.main([str(file), f"--out={out}", f"--heads={heads}"]) == 0
    printed = capsys.readouterr().out
    assert "dropped" in printed
    assert "the CNN of an end-to-end model; features are computed beforehand here" in printed
    assert {p.name for p in out.iterdir()} == {
        "config.json", "model.safetensors", "vocab.txt", "README.md"
    }  # fmt: skip
    card = (out / "README.md").read_text()
    assert f"{DEEP} layers, {WIDE} wide" in card
    assert "vl-bert-base-prec.safetensors (vlbert)" in card

    model = inference.load(str(out))
    assert model.pieces[7] == "piece7"
    batch = vlbert_batch(golden)
    outputs = model(batch)
    # The published multi-task model gives every region's class and every word's logits.
    golden.check_output(
        "mvrc_logits", model.head("masked_region", outputs["regions"]), batch["region_mask"][:, 0]
    )
    words = model.head("masked_language", outputs["text"], outputs["word_embedding"])
    mask = batch["text_mask"][:, 0]
    expected = golden["out/mlm_logits_wvc"][:, : mask.shape[1]]
    np.testing.assert_allclose(words[mask], expected[mask], atol=2e-5, rtol=2e-4)

    back = tmp_path / "back.safetensors"
    assert convert.main([str(out), f"--torch={back}"]) == 0
    again = load_file(back)
    assert sorted(again) == sorted(state)
    assert all(np.array_equal(again[name], array) for name, array in state.items())
    assert convert.main([str(out), f"--torch={back}"]) == 1  # never over a file
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vilbert_vl_tasks_dynamic", "vilbert_baseline_vl_tasks"])
def test_two_streams_and_baseline_there_and_back(name, tmp_path):
    kind = "single_stream" if "baseline" in name else "vilbert"
    golden, state = published(name, torch_names.ALIASES[kind])
    state = {name: np.asarray(array) for name, array in state.items()}
    save_file(state, tmp_path / "pytorch_model.safetensors")
    source = sources.open_source(str(tmp_path / "pytorch_model.safetensors"))
    assert source.kind == kind
    meta = golden.meta
    heads = meta["num_attention_heads"]
    convert.to_folder(source, tmp_path / "out", heads=heads, image_heads=2)
    opened = sources.open_source(str(tmp_path / "out"))
    assert all(np.array_equal(opened.arrays[k], v) for k, v in source.arrays.items())
    again = convert.to_torch(opened, tmp_path / "again.safetensors")
    assert sorted(again) == sorted(state)
    assert all(np.array_equal(again[k], v) for k, v in state.items() if "q_dense" not in k)


def bert(pieces, width=WIDE, layers=2, seed=0):
    """A made BERT: (state dict with old names, pieces)."""
    rng = np.random.default_rng(seed)

    def array(*shape):
        return rng.standard_normal(shape).astype(np.float16)

    state = {
        "bert.embeddings.word_embeddings.weight": array(len(pieces), width),
        "bert.embeddings.position_embeddings.weight": array(64, width),
        "bert.embeddings.token_type_embeddings.weight": array(2, width),
        "bert.embeddings.LayerNorm.gamma": array(width),
        "bert.embeddings.LayerNorm.beta": array(width),
        "bert.embeddings.position_ids": np.arange(64)[None],
        "bert.pooler.dense.weight": array(width, width),
        "bert.pooler.dense.bias": array(width),
        "cls.predictions.bias": array(len(pieces)),
        "cls.predictions.transform.dense.weight": array(width, width),
        "cls.predictions.transform.dense.bias": array(width),
        "cls.predictions.transform.LayerNorm.gamma": array(width),
        "cls.predictions.transform.LayerNorm.beta": array(width),
        "cls.seq_relationship.weight": array(2, width),
        "cls.seq_relationship.bias": array(2),
    }
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    for i in range(layers):
        at = f"bert.encoder.layer.{i}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value",
                     "attention.output.dense"):  # fmt: skip
            state |= {f"{at}.{name}.weight": array(width, width), f"{at}.{name}.bias": array(width)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            state |= {f"{at}.{name}.gamma": array(width), f"{at}.{name}.beta": array(width)}
        state |= {f"{at}.intermediate.dense.weight": array(96, width),
                  f"{at}.intermediate.dense.bias": array(96),
                  f"{at}.output.dense.weight": array(width, 96),
                  f"{at}.output.dense.bias": array(width)}  # fmt: skip
    return state


SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
THEIRS = [*SPECIALS, "cat", "dog", "##s", "red"]
MINE = [*SPECIALS, "red", "cat", "boat"]


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    save_file(bert(THEIRS), folder / "model.safetensors")
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in THEIRS))
    return folder


def target(model="vlbert", layers=2, positions=32):
    """(config of the model, nested shapes with a masked-language head)."""
    from ml_collections import ConfigDict

    import vl_models
    from vl_models import heads

    block = models.block(model, "mini", connections=1)
    block.update(hidden=WIDE, layers=layers, heads=4, intermediate=96, positions=positions)
    if model == "vilbert":
        block["connect"]["text_at"] = (layers - 1,)
    block = ConfigDict(block)
    trunk = vl_models.build_trunk(
        model, block, vocab_size=len(MINE), feature_dim=6, text_only=False,
        masked_regions=False, dtype=np.float32,
    )  # fmt: skip
    ids = np.zeros((1, 1, 4), np.int32)
    batch = dict(
        text_ids=ids, text_mask=ids == 0, segment_ids=ids,
        regions=np.zeros((1, 1, 2, 6), np.float32), boxes=np.zeros((1, 1, 2, 4), np.float32),
        image_size=np.ones((1, 1, 2), np.float32), region_mask=np.ones((1, 1, 2), bool),
    )  # fmt: skip

    def init(key):
        trunk_params = trunk.init(key, batch, train=False, max_length=6)["params"]
        states = np.zeros((1, 1, WIDE), np.float32)
        table = np.zeros((len(MINE), WIDE), np.float32)
        head = heads.MaskedLanguageHead(trunk.sizes).init(key, states, table)["params"]
        return {"trunk": trunk_params, "heads": {"masked_language": head}}

    return jax.jit(init)(jax.random.key(0))


def test_bert_into_vlbert_with_another_vocabulary(bert_folder):
    source = sources.open_source(str(bert_folder))
    assert source.kind == "bert"
    fresh = target()
    fitted = transfer.fit(source, fresh, model="vlbert", pieces=MINE)
    params = transfer.place(fitted, fresh)
    state = bert(THEIRS)

    words = np.asarray(params["trunk"]["embeddings"]["word"]["embedding"])
    published_words = state["bert.embeddings.word_embeddings.weight"].astype(np.float32)
    for piece in ("[MASK]", "red", "cat"):
        assert np.array_equal(words[MINE.index(piece)], published_words[THEIRS.index(piece)])
    boat = MINE.index("boat")  # BERT has no such word: initial value
    assert np.array_equal(words[boat], fresh["trunk"]["embeddings"]["word"]["embedding"][boat])
    bias = np.asarray(params["heads"]["masked_language"]["bias"])
    assert bias[MINE.index("cat")] == state["cls.predictions.bias"][THEIRS.index("cat")]

    segments = np.asarray(params["trunk"]["embeddings"]["segment"]["embedding"])
    assert segments.shape[0] == 3
    kinds = state["bert.embeddings.token_type_embeddings.weight"]
    assert np.array_equal(segments[:2], kinds.astype(np.float32))
    assert np.array_equal(segments[2], fresh["trunk"]["embeddings"]["segment"]["embedding"][2])
    query = params["trunk"]["layer_1"]["attention"]["query"]["kernel"]
    assert np.array_equal(query, state["bert.encoder.layer.1.attention.self.query.weight"].T)

    text = transfer.table(fitted.report)
    assert "7 of 8 word pieces by name" in text
    assert "the first 2 of 3 segments" in text
    assert "the first 32 of 64 positions" in text
    assert "BERT's next-sentence head" in text
    assert "a list of indices, no parameter" in text
    every = {line.path for line in fitted.report} | {line.name for line in fitted.report}
    assert set(torch_names.plain_names(state)) <= every  # nothing without a line
    initial = {line.path.split("/")[1] for line in fitted.report if line.fate == "initial"}
    assert initial == {"embeddings", "regions"}


def test_bert_into_vilbert_leaves_the_image_side_alone(bert_folder):
    source = sources.open_source(str(bert_folder))
    fitted = transfer.fit(source, target("vilbert"), model="vilbert", pieces=MINE)
    taken = {path.split("/")[1] for path in fitted.arrays}
    assert taken == {"embeddings", "layer_0", "layer_1", "masked_language"}
    assert "ViLBERT's poolers are others" in transfer.table(fitted.report)


def test_bare_encoder_and_roberta(tmp_path):
    plain = {k.removeprefix("bert."): v for k, v in bert(THEIRS).items() if k.startswith("bert.")}
    save_file(plain, tmp_path / "model.safetensors")
    source = sources.open_source(str(tmp_path / "model.safetensors"), vocab="")
    assert source.kind == "bert"
    assert source.pieces is None
    assert "trunk/layer_1/mlp/output/kernel" in source.arrays

    state = bert(THEIRS)
    roberta = {k.replace("bert.", "roberta."): v for k, v in state.items() if k[:5] == "bert."}
    kinds = "roberta.embeddings.token_type_embeddings.weight"
    roberta[kinds] = roberta[kinds][:1]
    folder = tmp_path / "roberta"
    folder.mkdir()
    save_file(roberta, folder / "model.safetensors")
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "Ġred", "cat", "Ġcat", "<mask>", "Ġx"]
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    source = sources.open_source(str(folder))
    assert source.kind == "roberta"
    fresh = target()
    fitted = transfer.fit(source, fresh, model="vlbert", pieces=MINE)
    words = fitted.arrays["trunk/embeddings/word/embedding"]
    table = state["bert.embeddings.word_embeddings.weight"].astype(np.float32)
    assert np.array_equal(words[MINE.index("cat")], table[pieces.index("Ġcat")])
    assert np.array_equal(words[MINE.index("[CLS]")], table[pieces.index("<s>")])
    segments = fitted.arrays["trunk/embeddings/segment/embedding"]
    assert np.array_equal(segments[0], segments[1])  # one row for both
    positions = state["bert.embeddings.position_embeddings.weight"].astype(np.float32)
    assert np.array_equal(fitted.arrays["trunk/embeddings/position/embedding"], positions[2:34])


def test_what_does_not_fit_is_named_with_the_sizes_that_would(bert_folder):
    source = sources.open_source(str(bert_folder))
    with pytest.raises(sources.SourceError, match=r"layers: 2 in the source, 3 in the model") as no:
        transfer.fit(source, target(layers=3), model="vlbert", pieces=MINE)
    assert "--config.model.hidden=48 --config.model.layers=2" in str(no.value)
    unknown = dataclasses.replace(source, pieces=None)
    with pytest.raises(sources.SourceError, match=r"\(9, 48\) in the source, \(8, 48\) in the mod"):
        transfer.fit(unknown, target(), model="vlbert", pieces=MINE)
    less = dict(source.arrays)
    del less["trunk/layer_0/attention/query/bias"]
    with pytest.raises(sources.SourceError, match="which has others of its module"):
        transfer.fit(
            dataclasses.replace(source, arrays=less), target(), model="vlbert", pieces=MINE
        )
    nothing = {"heads/vqa/classifier/bias": np.zeros(3)}
    names = dict.fromkeys(nothing, "x")
    empty = dataclasses.replace(source, arrays=nothing, names=names)
    with pytest.raises(sources.SourceError, match="no parameter of the trunk"):
        transfer.fit(empty, target(), model="vlbert", pieces=MINE)


def test_answer_heads_are_mapped_by_answer():
    kernel, bias = np.arange(6.0).reshape(2, 3), np.array([10.0, 20.0, 30.0])
    source = sources.Source(
        "x", "run",
        {"trunk/a": np.ones(1), "heads/vqa/classifier/kernel": kernel,
         "heads/vqa/classifier/bias": bias},
        {"trunk/a": "a", "heads/vqa/classifier/kernel": "k", "heads/vqa/classifier/bias": "b"},
        answers=["yes", "no", "red"],
    )  # fmt: skip
    shapes = {
        "trunk": {"a": np.zeros(1)},
        "heads": {"vqa": {"classifier": {"kernel": np.zeros((2, 2)), "bias": np.zeros(2)}}},
    }
    fitted = transfer.fit(source, shapes, model="vlbert", answers=["red", "blue"])
    assert fitted.arrays["heads/vqa/classifier/kernel"].tolist() == [[2, 0], [5, 0]]
    assert fitted.known["heads/vqa/classifier/bias"].tolist() == [True, False]
    start = {"heads/vqa/transform": "heads/masked_language/transform"}
    warm = dataclasses.replace(
        source,
        arrays=source.arrays | {"heads/masked_language/transform/kernel": np.eye(2)},
        names={path: path for path in (*source.names, "heads/masked_language/transform/kernel")},
    )
    shapes["heads"]["vqa"]["transform"] = {"kernel": np.zeros((2, 2))}
    fitted = transfer.fit(warm, shapes, model="vlbert", answers=["red", "blue"], warm_start=start)
    assert np.array_equal(fitted.arrays["heads/vqa/transform/kernel"], np.eye(2))
    assert "warm start from heads/masked_language/transform" in transfer.table(fitted.report)
    assert not [line for line in fitted.report if line.fate == "dropped"]


def shaped(kind, **shapes):
    """A source of zeros in these shapes, beside what every model has."""
    every = {
        "trunk/embeddings/word/embedding": (9, 128),
        "trunk/embeddings/position/embedding": (16, 128),
        "trunk/layer_0/mlp/intermediate/kernel": (128, 96),
        "trunk/layer_1/mlp/intermediate/kernel": (128, 96),
    }
    every |= {f"trunk/{name}": shape for name, shape in shapes.items()}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in every.items()}
    return sources.Source("x", kind, arrays, dict.fromkeys(arrays, ""))


def test_sizes_are_read_off_the_arrays():
    text = dict(hidden=128, layers=2, heads=2, intermediate=96, positions=16)
    projection = {"regions/projection/kernel": (40, 128)}
    found = published_model.block(shaped("vlbert", **projection, **{"regions/mask": (30,)}))
    assert found.items() >= (text | dict(name="vlbert", geometry_dim=10, pooler=False)).items()
    # The end-to-end files have no mask vector; geometry and features are of one width there.
    found = published_model.block(shaped("vlbert_vcr", **projection, **{
        "pooler/dense/kernel": (128, 128)}))  # fmt: skip
    assert (found["name"], found["geometry_dim"], found["pooler"]) == ("vlbert", 20, True)
    located = shaped("vilbert_beta", **{
        "regions/projection/kernel": (30, 256), "regions/location/kernel": (5, 256),
        "image_pooler/dense/kernel": (256, 384), "image_layer_0/mlp/intermediate/kernel": (256, 64),
        "connection_0/text_attention/query/kernel": (128, 384),
    })  # fmt: skip
    assert published_model.feature_dim(located.arrays) == 30
    found = published_model.block(located)
    assert found.items() >= (text | dict(name="vilbert", tasks=0)).items()
    assert found["image"].items() >= dict(hidden=256, heads=2, intermediate=64, layers=1).items()
    assert found["connect"].items() >= dict(hidden=384, heads=3, text_at=(1,)).items()
    assert published_model.block(located, heads=4, image_heads=8)["image"]["heads"] == 8
    with pytest.raises(sources.SourceError, match="has no image side"):
        published_model.block(shaped("bert"))


def test_unknown_names_and_places(tmp_path, capsys):
    state = {"vlbert.word_embeddings.weight": np.zeros((4, 4), np.float32)}
    file = tmp_path / "x.safetensors"
    save_file(state | {"vlbert.encoder.layer.3.attention.self.qury.weight": np.zeros(2)}, file)
    with pytest.raises(sources.SourceError, match=r"nearest known: vlbert\.encoder\.layer\.3\.att"):
        sources.open_source(str(file))
    save_file({"conv1.weight": np.zeros(2)}, tmp_path / "y.safetensors")
    with pytest.raises(sources.SourceError, match="the names of no model known here"):
        sources.open_source(str(tmp_path / "y.safetensors"))
    (tmp_path / "z.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    with pytest.raises(sources.SourceError, match="no sound safetensors file"):
        sources.open_source(str(tmp_path / "z.safetensors"))
    with pytest.raises(sources.SourceError, match="no such file or folder"):
        sources.open_source("/nowhere/at/all.bin")
    (tmp_path / "w.txt").write_text("x")
    with pytest.raises(sources.SourceError, match=r"expected \.safetensors or one of \.bin"):
        sources.open_source(str(tmp_path / "w.txt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(sources.SourceError, match="holds no parameters"):
        sources.open_source(str(tmp_path / "empty"))
    assert convert.main([str(file)]) == 1
    assert "error:" in capsys.readouterr().err


def test_half_precision_files(tmp_path):
    values = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    name = "vlbert.word_embeddings.weight"
    from safetensors.flax import save_file as save_flax

    save_flax({name: jax.numpy.asarray(values)}, tmp_path / "half.safetensors")
    array = sources.read_state(tmp_path / "half.safetensors")[name]
    assert array.astype(np.float32).tolist() == [[1.5, -2.0]]


def test_pickled_files_open_with_weights_only(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch reads .bin files; pip install torch")
    name = "module.bert.v_embeddings.LayerNorm.weight"
    state = {name: torch.ones(3, dtype=torch.float16), "b": torch.ones(3, dtype=torch.bfloat16)}
    torch.save({"epoch": 3, "model_state_dict": state}, tmp_path / "ckpt.tar")
    found = sources.read_state(tmp_path / "ckpt.tar")
    assert (found[name].dtype, found["b"].dtype) == (np.float16, np.float32)
    torch.save({"evil": print}, tmp_path / "evil.bin")
    with pytest.raises(sources.SourceError, match="cannot be read as a PyTorch file of weights"):
        sources.read_state(tmp_path / "evil.bin")


def test_missing_torch_is_said_clearly(tmp_path, monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "torch":
            raise ImportError("No module named 'torch'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(sources.SourceError, match=r"PyTorch is not installed\n  fix: pip install"):
        sources.read_state(tmp_path / "pytorch_model.bin")
