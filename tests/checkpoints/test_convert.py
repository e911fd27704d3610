"""Checkpoints in and out: published files, BERT, shared folders; what fits and what does not."""

import dataclasses

import golden_files
import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import inference
from checkpoints import convert, export, published_model, sources, transfer
from vl_models.heads import HeadSpec
from vl_models.published import translate

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
    golden, state = published("vlbert_pretrain_multitask", translate.ALIASES["vlbert"])
    folder = tmp_path_factory.mktemp("published")
    prefixed = {f"module.{name}": array for name, array in state.items()}
    extra = {"module.image_feature_extractor.backbone.bn1.num_batches_tracked": np.int64([7])}
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
    assert "a count of batches, no parameter" in printed
    assert {p.name for p in out.iterdir()} == {
        "config.json", "model.safetensors", "vocab.txt", "README.md", "SHA256SUMS"
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
    golden, state = published(name, translate.ALIASES[kind])
    state = {name: np.asarray(array) for name, array in state.items()}
    save_file(state, tmp_path / "pytorch_model.safetensors")
    source = sources.open_source(str(tmp_path / "pytorch_model.safetensors"))
    assert source.kind == kind
    meta = golden.meta
    heads = meta["num_attention_heads"]
    convert.to_folder(source, tmp_path / "out", heads=heads, image_heads=2)
    opened = sources.open_source(str(tmp_path / "out"))
    assert all(np.array_equal(opened.arrays[k], v) for k, v in source.arrays.items())
    again = export.to_torch(opened, tmp_path / "again.safetensors")
    assert sorted(again) == sorted(state)
    assert all(np.array_equal(again[k], v) for k, v in state.items() if "q_dense" not in k)


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
    mine = {"vqa": HeadSpec("linear", "text", dict(outputs=2), "answers", ("red", "blue"))}
    fitted = transfer.fit(source, shapes, model="vlbert", heads=mine)
    assert fitted.arrays["heads/vqa/classifier/kernel"].tolist() == [[2, 0], [5, 0]]
    assert fitted.known["heads/vqa/classifier/bias"].tolist() == [True, False]
    other = {"vqa": HeadSpec("linear", "text", dict(outputs=2), "answers", ("Red ", "The no."))}
    fitted = transfer.fit(source, shapes, model="vlbert", heads=other)
    assert fitted.arrays["heads/vqa/classifier/kernel"].tolist() == [[2, 1], [5, 4]]
    assert fitted.known["heads/vqa/classifier/bias"].tolist() == [True, True]
    start = {"heads/vqa/transform": "heads/masked_language/transform"}
    warm = dataclasses.replace(
        source,
        arrays=source.arrays | {"heads/masked_language/transform/kernel": np.eye(2)},
        names={path: path for path in (*source.names, "heads/masked_language/transform/kernel")},
    )
    shapes["heads"]["vqa"]["transform"] = {"kernel": np.zeros((2, 2))}
    fitted = transfer.fit(warm, shapes, model="vlbert", heads=mine, warm_start=start)
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
    assert "features" not in found
    found = published_model.block(shaped("vlbert_refcoco", **projection, **{
        "vision/backbone/stem/kernel": (7, 7, 3, 16),
        **{f"vision/backbone/res{n}/block_{i}/conv1/bias": (1,)
           for n in (2, 3, 4) for i in range(n)},
        "vision/head/res5/block_0/conv1/bias": (1,)}))  # fmt: skip
    assert (found["features"], found["vision"]["blocks"]) == ("pixels", (2, 3, 4, 1))
    assert (found["vision"]["width"], found["vision"]["frozen_stages"]) == (16, 2)
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
