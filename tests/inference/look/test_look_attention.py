"""Numbers of a page: rollout, statistics, places, bytes; against a few lines of numpy."""

import base64
import types
import zlib

import numpy as np
import pytest

from inference.look import attention, content
from tests.inference.look import made_look


def test_rollout_of_one_stream_is_the_product_of_its_layers():
    example = made_look.one_stream(layers=3)
    expected = np.eye(8)
    for number, one in enumerate(example.maps):
        expected = (0.5 * one.probs.mean(0) + 0.5 * np.eye(8)) @ expected
        np.testing.assert_allclose(example.rollout[number], expected, atol=1e-6)
    np.testing.assert_allclose(example.rollout.sum(-1), 1, atol=1e-6)


def test_rollout_of_two_streams_follows_both_and_what_they_exchange():
    example = made_look.two_streams()
    text, to_image, to_text, text2, image = (one.probs.mean(0) for one in example.maps)
    w = example.words
    nothing = np.zeros((w, example.regions))
    first = np.block([[text, nothing], [nothing.T, np.eye(3)]])
    exchange = np.block([[np.zeros((w, w)), to_image], [to_text, np.zeros((3, 3))]])
    apart = np.block([[text2, nothing], [nothing.T, image]])
    half = [0.5 * (step + np.eye(7)) for step in (first, exchange, apart)]
    half[0][w:] = np.eye(7)[w:]  # no image layer runs on the first level
    np.testing.assert_allclose(example.rollout[0], half[0], atol=1e-6)
    np.testing.assert_allclose(example.rollout[1], half[2] @ half[1] @ half[0], atol=1e-6)


def test_entropy_is_a_share_of_the_largest_possible():
    alike, one = np.full((1, 2, 4), 0.25), np.eye(4)[None, :2]
    np.testing.assert_allclose(attention.entropy(np.concatenate([alike, one])), [1, 0], atol=1e-7)
    probs = made_look.probs(np.random.RandomState(0), 3, 5, 6)
    by_hand = [np.mean([-sum(p * np.log(p) for p in row) for row in head]) for head in probs]
    np.testing.assert_allclose(attention.entropy(probs), np.array(by_hand) / np.log(6), rtol=1e-5)
    assert attention.entropy(np.ones((2, 3, 1))).tolist() == [0, 0]


def test_cross_modal_shares():
    example = made_look.one_stream()  # words 0 … 3 and [END], 7; regions 4 … 6
    page = made_look.page_of(example)
    shares = {one["title"]: one["rows"] for one in page["attention"]["statistics"]}
    probs = example.maps[1].probs
    words = probs[:, [0, 1, 2, 3, 7], 4:7].sum(-1).mean(-1)
    np.testing.assert_allclose(shares["cross-modal share of words"][1], words, atol=1e-4)
    regions = 1 - probs[:, 4:7, 4:7].sum(-1).mean(-1)
    np.testing.assert_allclose(shares["cross-modal share of regions"][1], regions, atol=1e-4)
    marks = probs[:, :, [0, 3, 4, 7]].sum(-1).mean(-1)
    np.testing.assert_allclose(shares["share of marks"][1], marks, atol=1e-4)


def test_cross_modal_shares_of_two_streams_are_all_or_nothing():
    page = made_look.page_of(made_look.two_streams())
    shares = {one["title"]: one["rows"] for one in page["attention"]["statistics"]}
    of_words, of_regions = (shares[f"cross-modal share of {x}"] for x in ("words", "regions"))
    assert of_words == [[0, 0], pytest.approx([1, 1, 1], abs=1e-4), None, [0, 0], None]
    assert of_regions == [None, None, pytest.approx([1, 1, 1], abs=1e-4), None, [0, 0]]


def test_places_are_the_main_axes_and_hardly_turn():
    rs = np.random.RandomState(0)
    states = rs.standard_normal((9, 5)) * [9, 5, 1, 0.1, 0.1]
    turned = states @ np.linalg.qr(rs.standard_normal((5, 5)))[0]
    first, second = attention.panels([states, turned], (0, 9))
    values = np.linalg.eigvalsh(np.cov(states.T))
    assert first.explained == pytest.approx(values[-2:].sum() / values.sum(), rel=1e-5)
    np.testing.assert_allclose(second.places, first.places, atol=1e-5)
    assert np.abs(first.places).max() == 1
    (alone,) = attention.panels([np.ones((1, 5))], (0, 1))
    assert alone.places.tolist() == [[0, 0]]
    assert alone.explained == 1


def test_bytes_hold_attention_within_half_a_step_of_its_row():
    example = made_look.two_streams()
    found = made_look.page_of(example)["attention"]
    data = zlib.decompress(base64.b64decode(found["blob"]))
    scales = np.frombuffer(data, "<f4", found["scales"])
    values = np.frombuffer(data, np.uint8, offset=4 * found["scales"])
    for probs in [*(one.probs for one in example.maps), example.rollout]:
        rows = int(np.prod(probs.shape[:-1]))
        here, scales = scales[:rows].reshape(probs.shape[:-1])[..., None], scales[rows:]
        read, values = values[: probs.size].reshape(probs.shape) / 255 * here, values[probs.size :]
        assert (np.abs(read - probs) <= here / 510 + 1e-7).all()
    assert not len(scales)
    assert not len(values)
    zero, largest = content.quantised(np.zeros((1, 3)))
    assert not zero.any()
    assert not largest.any()


def trunk_out(rs, words, regions, *, text_layers, image_layers, at, tasks=0):
    """What a trunk with padding returns: 2 places more of each kind, whose attention is 0."""
    t, r = words + bool(tasks) + 2, regions + 2

    def padded(queries, keys, real):
        out = np.zeros((1, 2, queries, keys), np.float32)
        out[..., :real] = made_look.probs(rs, 1, 2, queries, real)
        return out

    connections = [
        (padded(t, r, regions), padded(r, t, words + bool(tasks))) for _ in range(len(at[0]))
    ]
    return dict(
        attention=dict(
            text=[padded(t, t, words + bool(tasks)) for _ in range(text_layers)],
            image=[padded(r, r, regions) for _ in range(image_layers)],
            connection=connections,
        ),
        hidden=dict(
            text=rs.standard_normal((text_layers + 1, 1, t, 6)),
            image=rs.standard_normal((image_layers + 1, 1, r, 4)),
        ),
    ), dict(
        text_mask=np.arange(words + 2) < words, region_mask=np.arange(regions + 2) < regions
    )  # fmt: skip


@pytest.mark.parametrize("tasks", [0, 3])
def test_levels_of_two_streams_are_the_schedule_of_their_connections(tasks):
    rs, at = np.random.RandomState(0), ((1, 2), (0, 2))
    trunk = types.SimpleNamespace(
        text_layers=4, image_layers=3, text_at=at[0], image_at=at[1], tasks=tasks
    )
    out, row = trunk_out(rs, 4, 3, text_layers=4, image_layers=3, at=at, tasks=tasks)
    example = attention.example_of(trunk, out, row)
    assert example.levels == [
        "text layer 1",
        "text layer 2, image layer 1",
        "image layer 2",
        "text layer 3, image layer 3",
        "text layer 4",
    ]
    assert [(one.level, one.kind) for one in example.maps] == [
        (0, "text"),
        (1, "text_to_image"), (1, "image_to_text"), (1, "text"), (1, "image"),
        (2, "image"),
        (3, "text_to_image"), (3, "image_to_text"), (3, "text"), (3, "image"),
        (4, "text"),
    ]  # fmt: skip
    words = 4 + bool(tasks)
    assert (example.words, example.regions, example.size) == (words, 3, words + 3)
    for one in example.maps:
        np.testing.assert_allclose(one.probs.sum(-1), 1, atol=1e-6)
        assert one.probs.shape[1:] == tuple(
            np.subtract(*span[::-1]) for span in (one.queries, one.keys)
        )
    # The stage after a level shows what its layers gave.
    text, image = out["hidden"]["text"], out["hidden"]["image"]
    heights = [(0, 0), (1, 0), (2, 1), (2, 2), (3, 3), (4, 3)]
    assert len(example.stages) == len(heights)
    for (of_words, of_regions), (t, i) in zip(example.stages, heights, strict=True):
        for panel, states in ((of_words, text[t, 0, :words]), (of_regions, image[i, 0, :3])):
            values = np.linalg.svd(states - states.mean(0), compute_uv=False) ** 2
            assert panel.explained == pytest.approx(values[:2].sum() / values.sum(), rel=1e-5)
    pieces = ["[CLS]", "a", "##b", "[SEP]"]
    page = content.page("", [], [], made_look.regions_of(2), None, pieces, example)
    assert [one["text"] for one in page["tokens"]][:3] == [
        "[CLS]",
        *["[TASK]", "a"][not tasks :],
        "b",
    ][:3]


def test_places_of_one_stream_without_packing():
    rs = np.random.RandomState(0)
    trunk = types.SimpleNamespace(packs=False)
    row = dict(text_mask=np.arange(5) < 3, region_mask=np.arange(4) < 2)
    full = made_look.probs(rs, 1, 2, 9, 9)
    example = attention.example_of(
        trunk, dict(attention=(full,), hidden=rs.standard_normal((2, 1, 9, 6))), row
    )
    real = [0, 1, 2, 5, 6]
    assert (example.words, example.regions, example.size) == (3, 2, 5)
    np.testing.assert_array_equal(example.maps[0].probs, full[0][:, real][:, :, real])
