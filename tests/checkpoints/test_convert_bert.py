"""BERT and RoBERTa into both models: vocabularies, sizes, what does not fit."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from checkpoints import sources, transfer
from configs import models
from vl_models.heads import HeadSpec
from vl_models.published import translate

WIDE = 48


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
HEADS = {"masked_language": HeadSpec("tied_decoder", "text")}
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
    spec = vl_models.TrunkSpec(
        vocab_size=len(MINE),
        feature_dim=6,
        text_only=False,
        masked_regions=False,
        dtype=np.float32,
    )
    trunk = vl_models.build_trunk(block, spec)
    ids = jnp.zeros((1, 1, 4), np.int32)
    batch = dict(
        text_ids=ids, text_mask=ids == 0, segment_ids=ids,
        regions=jnp.zeros((1, 1, 2, 6), np.float32), boxes=jnp.zeros((1, 1, 2, 4), np.float32),
        image_size=jnp.ones((1, 1, 2), np.float32), region_mask=jnp.ones((1, 1, 2), bool),
    )  # fmt: skip

    def init(key):
        trunk_params = trunk.init(key, batch, train=False, max_length=6)["params"]
        states = jnp.zeros((1, 1, WIDE), np.float32)
        table = jnp.zeros((len(MINE), WIDE), np.float32)
        head = heads.MaskedLanguageHead(trunk.sizes).init(key, states, table)["params"]
        return {"trunk": trunk_params, "heads": {"masked_language": head}}

    return jax.jit(init)(jax.random.key(0))


def test_bert_into_vlbert_with_another_vocabulary(bert_folder):
    source = sources.open_source(str(bert_folder))
    assert source.kind == "bert"
    fresh = target()
    fitted = transfer.fit(source, fresh, model="vlbert", pieces=MINE, heads=HEADS)
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
    assert set(translate.plain_names(state)) <= every  # nothing without a line
    initial = {line.path.split("/")[1] for line in fitted.report if line.fate == "initial"}
    assert initial == {"embeddings", "regions"}


def test_bert_into_vilbert_leaves_the_image_side_alone(bert_folder):
    source = sources.open_source(str(bert_folder))
    fitted = transfer.fit(source, target("vilbert"), model="vilbert", pieces=MINE, heads=HEADS)
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
    fitted = transfer.fit(source, fresh, model="vlbert", pieces=MINE, heads=HEADS)
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
        transfer.fit(source, target(layers=3), model="vlbert", pieces=MINE, heads=HEADS)
    assert "--config.model.hidden=48 --config.model.layers=2" in str(no.value)
    unknown = dataclasses.replace(source, pieces=None)
    with pytest.raises(sources.SourceError, match=r"\(9, 48\) in the source, \(8, 48\) in the mod"):
        transfer.fit(unknown, target(), model="vlbert", pieces=MINE, heads=HEADS)
    less = dict(source.arrays)
    del less["trunk/layer_0/attention/query/bias"]
    with pytest.raises(sources.SourceError, match="which has others of its module"):
        transfer.fit(
            dataclasses.replace(source, arrays=less),
            target(),
            model="vlbert",
            pieces=MINE,
            heads=HEADS,
        )
    nothing = {"heads/vqa/classifier/bias": np.zeros(3)}
    names = dict.fromkeys(nothing, "x")
    empty = dataclasses.replace(source, arrays=nothing, names=names)
    with pytest.raises(sources.SourceError, match="no parameter of the trunk"):
        transfer.fit(empty, target(), model="vlbert", pieces=MINE, heads=HEADS)
