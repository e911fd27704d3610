"""The verbs of pre-trained models, states and attention, and how results show themselves."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from core.errors import DataError
from inference import questions
from tests.inference import made_models

IMAGE = "7"


@pytest.fixture(scope="module")
def captions():
    return made_models.run("vilbert_pretrain", "data=jsonl,size=mini").shared


def test_masks_are_filled(captions):
    found = captions.fill_mask("a [MASK] cube and a small [MASK].", IMAGE, 3)
    assert [len(mask) for mask in found.masks] == [3, 3]
    first, second = (mask[0][0] for mask in found.masks)
    assert found.filled == questions.filled(found.text, [first, second])
    assert found.to_dict()["masks"][0][0] == list(found.masks[0][0])
    with pytest.raises(DataError, match="there is no mask to fill"):
        captions.fill_mask("a red cube", IMAGE)
    with pytest.raises(DataError, match=r"(?s)item 1 of 2.*there is no mask to fill"):
        captions.fill_mask(["a [MASK]", "a red cube"], IMAGE)
    # The same as a word that is hidden where it stands.
    with_word, _ = captions.fill_mask(["a [MASK] cube", "[MASK] [MASK]"], IMAGE, 3)
    model, objective = captions.checkpoint.model, captions._task("fill_mask", "")[1]
    asked = captions._asked("captions", "a red cube", IMAGE, made_models.caption)
    batch = captions._single("captions").batch(asked.examples, 1)
    batch["text_ids"][0, 0, 2] = captions.checkpoint.tokenizer.special.mask
    batch = {key: jnp.asarray(array) for key, array in batch.items()}

    @jax.jit
    def of_hidden(params, batch):
        outputs = model.outputs(params, "captions", batch, pairs=((0, 0),))
        head = model.head(params, objective.head_name)
        return jax.nn.softmax(head(outputs["text"][:, 2:3], outputs["word_embedding"])[0, 0])

    shares = np.asarray(of_hidden(captions.params, batch))
    names = captions.checkpoint.tokenizer.pieces
    assert with_word.masks[0][0][0] == names[int(shares.argmax())]
    assert with_word.masks[0][0][1] == pytest.approx(float(shares.max()), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        ("a [MASK] cube", ["red"], "a red cube"),
        ("two cube [MASK], [MASK].", ["##s", "big"], "two cubes, big."),
        ("[MASK] [MASK]", ["one"], "one [MASK]"),  # the second was cut off
    ],
)
def test_pieces_that_continue_a_word_join_it(text, pieces, expected):
    assert questions.filled(text, pieces) == expected


def test_alignment_and_ranking_agree(captions):
    texts = ["a red cube", "a ball left of a cone"]
    images = ["6", "7", "8"]
    ranked = captions.rank(texts, images)
    assert ranked.scores.shape == (2, 3)
    for i, text in enumerate(texts):
        for j, found in enumerate(captions.align(text, images)):
            assert ranked.scores[i, j] == pytest.approx(found.score, abs=1e-5)
            assert found.match == (found.score > 0)
            assert found.probability == pytest.approx(1 / (1 + np.exp(-found.score)), abs=1e-6)
    best = ranked.images_of(0)
    assert [score for _, score in best] == sorted(ranked.scores[0].tolist(), reverse=True)
    assert [i for i, _ in ranked.texts_of(2)] == np.argsort(-ranked.scores[:, 2]).tolist()
    assert ranked.names == tuple(images)


def test_states_are_of_words_and_regions(captions):
    found = captions.embed("a red cube, left", IMAGE)
    assert found.words == ("a", "red", "cube", ",", "left")
    assert len(found.word_states) == 5
    assert len(found.region_states) == len(found.boxes) == 1 + len(found.images[0].record["boxes"])
    assert found.boxes[0].tolist() == [0, 0, found.images[0].width, found.images[0].height]
    # In the order in which the model reads them.
    boxes = found.images[0].record["boxes"]
    np.testing.assert_allclose(sorted(found.boxes[1:].tolist()), sorted(boxes.tolist()), atol=1e-3)
    seen = captions.attention("a red cube", IMAGE, hidden=True)
    tokens, regions = len(seen.tokens), len(seen.boxes)
    assert seen.tokens[0] == "[CLS]"
    assert seen.maps["text"].shape == (2, 2, tokens, tokens)
    assert seen.maps["text_to_image"].shape == (1, 2, tokens, regions)
    assert seen.maps["image_to_text"].shape == (1, 2, regions, tokens)
    for array in seen.maps.values():
        np.testing.assert_allclose(array.sum(-1), 1, atol=1e-4)
    assert seen.hidden["image"].shape == (3, regions, 16)


def test_results_show_themselves_with_their_picture(captions, tmp_path):
    picture = tmp_path / "<b>.png"
    Image.new("RGB", (160, 130), (200, 30, 30)).save(picture)
    own = captions.reader("captions").read(IMAGE)
    arrays = dict(
        boxes=own.record["boxes"], features=own.record["features"][1:], size=(130, 160),
        class_probs=np.eye(3, 4),
    )  # fmt: skip
    found = captions.align("is <script> red?", arrays | dict(picture=picture, id="<i>"))
    page = found._repr_html_()
    assert "<script>" not in page
    assert "<i>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 1
    assert len(re.findall("data:image/png;base64,", page)) == 1
    assert page.count("<rect") >= len(own.record["boxes"])
    assert repr(found).startswith("Alignment(text: is <script>")
    without = captions.align("is it red?", arrays)._repr_html_()
    assert "data:image" not in without
    assert set(found.images[0].record) == {"boxes"}  # features are not kept
