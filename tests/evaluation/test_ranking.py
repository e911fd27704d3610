"""Ranking against brute force: every pair by itself, ranks counted one by one."""

import json
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import vilbert_pretrain
from evaluation import ranks, score_file
from evaluation.browser import page
from evaluation.evaluators import ranking
from input_pipeline.schema import SpecialIds
from objectives.model import MultiTaskModel
from runtime import sharding

T, R, F = 7, 5, 8
OWN = np.array([0, 1, 0, 2, 3, 1, 0, 4, 5, 6, 2, 3, 6, 6, 1, 4, 5])  # 17 texts of 7 images
CHOICE = dict(
    weight=1.0, pairs="retrieval", choices=4, classifier="1fc", width=0, loss="softmax",
    dropout=0.1, head="ranking", head_init="random", segment_b="as_loaded",
)  # fmt: skip


def configure(model="vilbert", objective="choice", **stream):
    config = vilbert_pretrain.get_config(f"size=mini,model={model},data=jsonl")
    config.model.update(hidden=16, layers=2, heads=2, intermediate=16)
    if model == "vilbert":
        config.model.image.update(hidden=16, heads=2, intermediate=16, layers=1)
        config.model.connect.update(hidden=16, heads=2, text_at=(1,), image_at=(0,))
    config.streams.captions.update(batch_size=8, max_text=T, max_regions=R, max_length=T + R,
                                   objectives=(objective,), **stream)  # fmt: skip
    with config.unlocked():
        config.objectives.choice = CHOICE
    return config


def text(number):
    rng = np.random.default_rng(100 + number)
    mask = np.arange(T) < 3 + number % 4
    return dict(text_ids=np.where(mask, rng.integers(5, 60, T), 0).astype(np.int32),
                text_mask=mask, segment_ids=np.zeros(T, np.int32), word_starts=mask)  # fmt: skip


def image(number, int8=False):
    rng = np.random.default_rng(200 + number)
    mask = np.arange(R) < 2 + number % 4
    corner = rng.uniform(0, 40, (R, 2))
    out = dict(regions=rng.standard_normal((R, F)).astype(np.float32), region_mask=mask,
               boxes=np.concatenate([corner, corner + 20], -1).astype(np.float32),
               image_size=np.array([64, 70 + number], np.float32))  # fmt: skip
    if int8:
        out["region_scale"] = rng.uniform(0.01, 0.02, R).astype(np.float32)
        out["regions"] = rng.integers(-127, 128, (R, F)).astype(np.int8)
    return out


class Stream:
    """Batches of 4 as an evaluation stream brings them, the last one padded; K = M = 2."""

    split, record_kind, fingerprint = "validation", "", "data"

    def __init__(self, own=OWN, int8=False):
        self.own, self.int8 = own, int8
        # Images lie in the store in another order than their first texts.
        keys = [f"image{i}" for i in range(9)]
        self.store = types.SimpleNamespace(
            keys=keys,
            rows_of=lambda names: np.array([keys.index(name) for name in names]),
            heights=np.arange(50, 59),
            widths=np.arange(60, 69),
        )

    def pictures(self, ids):
        return {}

    def words(self, text_ids):
        return " ".join(map(str, text_ids))

    def text_id(self, example):
        return f"text{example}"

    def key(self, number):
        return 8 - number

    def batches(self, shard):
        assert shard == (0, 1)
        for start in range(0, len(self.own), 4):
            rows = [min(start + i, len(self.own) - 1) for i in range(4)]
            pairs = [(text(row), text(row + 50)) for row in rows]
            other = image(90, self.int8)
            images = [(image(int(self.own[row]), self.int8), other) for row in rows]
            yield {
                **{k: np.stack([[a[k], b[k]] for a, b in pairs]) for k in pairs[0][0]},
                **{k: np.stack([[a[k], b[k]] for a, b in images]) for k in other},
                "image_key": np.array([[self.key(int(self.own[row])), 8] for row in rows]),
                "example_index": np.array(rows, np.int32),
                "_weight": np.array([start + i < len(self.own) for i in range(4)], np.float32),
            }


def block(**changes):
    made = dict(stream="captions", split="eval", batch_size=4, images=3, head="choice", first=0,
                folds=1, top=3)  # fmt: skip
    return ConfigDict(made | changes)


def mesh_of(data=1, fsdp=1, tensor=1):
    count = data * fsdp * tensor
    return sharding.make_mesh(dict(data=data, fsdp=fsdp, tensor=tensor), jax.devices()[:count])


def make_task(config):
    return MultiTaskModel(config, SpecialIds(0, 1, 2, 3, 4, 64), types.SimpleNamespace(
        feature_dim=F, num_classes=0, global_feature="mean"))  # fmt: skip


def make_params(task, texts):
    """Initial parameters, with a head whose scores lie apart."""
    batch = {**{k: jnp.asarray(np.stack([[text(0)[k]] * texts] * 2)) for k in text(0)},
             **{k: jnp.asarray(np.stack([[image(0)[k]] * 2] * 2)) for k in image(0)},
             "_weight": jnp.ones(2)}  # fmt: skip
    return jax.jit(task.init)(jax.random.key(0), {"captions": batch})


def one_by_one(task, params, score, int8=False, own=OWN):
    """[N, M], each pair a batch of its own."""

    @jax.jit
    def run(params, batch):
        outputs = task.outputs(params, "captions", batch, pairs=((0, 0),))
        return score(outputs["pooled"])

    out = np.zeros((len(own), own.max() + 1))
    for n in range(len(own)):
        for m in range(out.shape[1]):
            pair = {k: x[None, None] for k, x in (text(n) | image(m, int8)).items()}
            out[n, m] = run(params, pair)[0]
    return out


def brute_force(scores, own):
    """The metrics, from ranks counted pair by pair."""
    image_ranks = []
    for n, m in enumerate(own):
        before = sum(scores[n, other] >= scores[n, m] for other in range(scores.shape[1])
                     if other != m)  # fmt: skip
        image_ranks.append(1 + before)
    text_ranks = []
    for m in range(scores.shape[1]):
        each = []
        for n in np.flatnonzero(own == m):
            each.append(1 + sum(scores[other, m] >= scores[n, m] for other in range(len(own))
                                if own[other] != m))  # fmt: skip
        text_ranks.append(min(each))
    out = {}
    for name, found in (("image_retrieval", image_ranks), ("text_retrieval", text_ranks)):
        for k in (1, 5, 10):
            out[f"{name}_r{k}"] = sum(rank <= k for rank in found) / len(found)
        # ViLBERT's scripts count ranks from 0
        out[f"{name}_median_rank"] = math.floor(np.median(np.array(found) - 1) + 1)
        out[f"{name}_mean_rank"] = sum(found) / len(found)
    return out


def without_counts(found):
    left_out = ("texts", "images")
    return {k: v for k, v in found.items() if k not in left_out and not k.endswith("_prior")}


@pytest.fixture(scope="module")
def fine_tuned():
    """(task, parameters, scores one by one) of ViLBERT with the head of four-way retrieval."""
    task = make_task(configure())
    params = make_params(task, 3)
    head = params["heads"]["ranking"]["classifier"]
    scores = one_by_one(task, params, lambda x: (x @ head["kernel"] + head["bias"])[:, 0])
    assert np.unique(scores).size == scores.size
    return task, params, scores


def evaluator(task, stream=None, mesh=None, **changes):
    return ranking.Evaluator(block(**changes), task, stream or Stream(),
                             lambda batch: sharding.place(batch, mesh), 0)  # fmt: skip


def scores_of(made, params, mesh):
    """(metrics, scores) of an evaluator."""
    kept = []
    with jax.set_mesh(mesh):
        fill = made._fill

        def keep(params, split, folds, scores):
            fill(params, split, folds, scores)
            kept.append(scores)

        made._fill = keep
        return made.run(params), np.array(kept[0])


def test_ranks_worked_out_by_hand():
    scores = np.array([
        [3, 1, 2],  # own 0: first
        [5, 5, 1],  # own 1: a tie counts against it
        [4, 2, 3],  # own 0
        [2, 2, 2],  # own 2: last of three
    ], np.float32)  # fmt: skip
    own = np.array([0, 1, 0, 2])
    assert ranks.of_images(scores, own).tolist() == [1, 2, 1, 3]
    # image 0: its best text has 4, text 1 has 5; image 1: 5 is alone; image 2: 2 after 3 and 2
    assert ranks.of_texts(scores, own).tolist() == [2, 1, 3]
    found = ranks.summary("x", np.array([1, 2, 1, 3]))
    assert found == {
        "x_r1": 0.5, "x_r5": 1.0, "x_r10": 1.0, "x_median_rank": 1.0, "x_mean_rank": 1.75,
    }  # fmt: skip


def test_chance_is_that_of_many_random_scores():
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        scores = rng.random((len(OWN), OWN.max() + 1))
        found.append(
            ranks.summary(ranks.IMAGES, ranks.of_images(scores, OWN))
            | ranks.summary(ranks.TEXTS, ranks.of_texts(scores, OWN))
        )
    expected = ranks.chance(OWN, OWN.max() + 1)
    assert expected["image_retrieval_r1_prior"] == pytest.approx(1 / 7)
    for name, share in expected.items():
        mean = np.mean([one[name.removesuffix("_prior")] for one in found])
        assert share == pytest.approx(mean, abs=0.02), name


def test_ranks_are_those_of_brute_force_with_ties():
    rng = np.random.default_rng(3)
    for texts, images in ((23, 11), (31, 13), (1, 1)):
        own = np.concatenate([np.arange(images), rng.integers(0, images, texts - images)])
        scores = rng.integers(0, 6, (texts, images)).astype(np.float32)
        found = ranks.summary("image_retrieval", ranks.of_images(scores, own))
        found |= ranks.summary("text_retrieval", ranks.of_texts(scores, own))
        assert found == pytest.approx(brute_force(scores, own))
    # One score for everything is the worst, not the best.
    assert ranks.of_images(np.zeros((4, 7)), np.arange(4)).tolist() == [7] * 4


@pytest.mark.parametrize(
    ("sizes", "changes"),
    [
        (dict(data=2, fsdp=2), dict(batch_size=8, images=3)),
        (dict(data=2, tensor=2), dict(batch_size=4, images=5)),
        (dict(), dict(batch_size=5, images=100)),
    ],
)
def test_scores_and_metrics_are_those_of_brute_force(fine_tuned, sizes, changes):
    task, params, want = fine_tuned
    mesh = mesh_of(**sizes)
    placed = jax.device_put(params, sharding.of_state(params, mesh, lambda text: None))
    found, scores = scores_of(evaluator(task, mesh=mesh, **changes), placed, mesh)
    np.testing.assert_allclose(scores, want, atol=1e-6)
    assert (found["texts"], found["images"]) == (17, 7)
    assert without_counts(found) == pytest.approx(brute_force(want, OWN))
    assert 0 < found["image_retrieval_r1"] < 1


def test_folds_are_ranked_by_themselves(fine_tuned):
    task, params, scores = fine_tuned
    mesh = mesh_of()
    found, filled = scores_of(evaluator(task, mesh=mesh, folds=3, images=2), params, mesh)
    parts = []
    for images in ([0, 1, 2], [3, 4], [5, 6]):
        texts = np.flatnonzero(np.isin(OWN, images))
        assert np.isfinite(filled[np.ix_(texts, images)]).all()
        parts.append(brute_force(scores[np.ix_(texts, images)], OWN[texts] - images[0]))
    mean = {name: np.mean([part[name] for part in parts]) for name in parts[0]}
    assert without_counts(found) == pytest.approx(mean)
    assert np.isnan(filled[0, 3])  # pairs of two folds are nobody's
    with jax.set_mesh(mesh), pytest.raises(ValueError, match="8 folds of 7 images"):
        evaluator(task, mesh=mesh, folds=8).run(params)


def test_the_first_images_alone(fine_tuned):
    """Of the first four images in the order of their texts; texts of others are not ranked."""
    task, params, scores = fine_tuned
    found, filled = scores_of(evaluator(task, mesh=mesh_of(), first=4), params, mesh_of())
    texts = np.flatnonzero(OWN < 4)
    want = scores[np.ix_(texts, range(4))]
    np.testing.assert_allclose(filled, want, atol=1e-6)
    assert (found["texts"], found["images"]) == (len(texts), 4)
    assert without_counts(found) == pytest.approx(brute_force(want, OWN[texts]))


def test_zero_shot_scores_are_log_odds_of_a_match():
    task = make_task(configure("single_stream", "alignment", negatives=True))
    params = make_params(task, 2)
    head = params["heads"]["alignment"]["classifier"]

    def log_odds(pooled):
        p = jax.nn.softmax(pooled @ head["kernel"] + head["bias"])
        return jnp.log(p[:, 1]) - jnp.log(p[:, 0])

    want = one_by_one(task, params, log_odds, int8=True)
    mesh = mesh_of(data=2)
    made = evaluator(task, Stream(int8=True), mesh, head="alignment")
    found, scores = scores_of(made, params, mesh)
    np.testing.assert_allclose(scores, want, atol=1e-5)
    assert without_counts(found) == pytest.approx(brute_force(want, OWN))


def test_an_interrupted_ranking_goes_on_and_ends_alike(fine_tuned, tmp_path, capsys):
    task, params, want = fine_tuned
    mesh = mesh_of()

    def run(folder, fail_at=None, params=params, **changes):
        """Returns the metrics and the steps it took; raises in the middle where told to."""
        made, steps = evaluator(task, mesh=mesh, **changes), []
        made.folder = folder
        step = made._step

        def counted(*args, **kwargs):
            steps.append(1)
            if len(steps) == fail_at:
                raise KeyboardInterrupt
            return step(*args, **kwargs)

        made._step = counted
        with jax.set_mesh(mesh):
            return made.run(params), len(steps)

    whole, steps = run(tmp_path / "whole")
    assert steps == 5 * 3  # 17 texts by 4, 7 images by 3
    folder = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        run(folder, fail_at=9)
    assert not (folder / "eval.jsonl").exists()
    again, rest = run(folder)
    assert again == whole
    assert rest == steps - 6  # two steps were under way
    assert "of 119 pairs are scored already" in capsys.readouterr().out
    for name in ("eval.jsonl", "eval.scores.npy", "eval.scores.json"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert run(folder) == (whole, 0)

    # Scores of other parameters, or a damaged file, are never gone on with.
    other = jax.tree.map(lambda x: x + 0.5, params)
    changed, steps_again = run(folder, params=other)
    assert steps_again == steps
    assert "ranking starts over" in capsys.readouterr().out
    assert changed != whole
    assert run(folder)[1] == steps
    (folder / "eval.scores.json").write_text("{")
    assert run(folder) == (whole, steps)

    # The lists: own rank, and the best images in order.
    lines = [json.loads(line) for line in (folder / "eval.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"text{i}" for i in range(17)]
    for n, line in enumerate(lines):
        assert line["image"] == f"image{8 - OWN[n]}"
        order = np.argsort(-want[n])
        assert [name for name, _ in line["top"]] == [f"image{8 - m}" for m in order[:3]]
        np.testing.assert_allclose([x for _, x in line["top"]], want[n, order[:3]], atol=1e-4)
        assert line["rank"] == 1 + np.flatnonzero(order == OWN[n])[0]
    # The page: each text with its own image and, where that is another, the first one.
    content = page.read(folder / "eval.html")
    assert content["splits"] == {"captions": "validation"}
    for line, one in zip(lines, page.examples_of(content), strict=True):
        (answer,) = one["answers"]
        words = text(int(line["id"].removeprefix("text")))["text_ids"].tolist()
        assert (one["id"], one["text"]) == (line["id"], " ".join(map(str, words)))
        assert answer["right"] is (line["rank"] == 1)
        assert answer["predicted"] == f"rank {line['rank']}"
        names = [line["image"]] + [line["top"][0][0]] * (line["rank"] > 1)
        assert [name for name, *_ in one["images"]] == names
        assert one["images"][0][1:] == [50 + int(names[0][5:]), 60 + int(names[0][5:])]
    assert {one["regions"] for one in page.examples_of(content)} <= set(range(1, R))
    assert np.load(folder / "eval.scores.npy").shape == (17, 7)
    facts = json.loads((folder / "eval.scores.json").read_text())
    assert facts["images"] == [f"image{8 - m}" for m in range(7)]


def test_parameters_have_one_digest_on_every_mesh():
    params = {"a": {"b": jnp.arange(16.0).reshape(4, 4)}, "c": jnp.ones(4)}
    mesh = mesh_of(fsdp=4)
    placed = jax.device_put(params, sharding.of_state(params, mesh))
    assert score_file.digest(placed) == score_file.digest(params)
    moved = {"a": {"b": params["a"]["b"].T}, "c": params["c"]}
    assert score_file.digest(moved) != score_file.digest(params)


def test_what_cannot_be_ranked_is_refused(fine_tuned):
    task, params, _ = fine_tuned
    with pytest.raises(
        ValueError,
        match=r"one of \['choice'\], of config\.streams\.captions",
    ):
        evaluator(task, head="alignment")
    short = configure("vilbert", "alignment", negatives=True)
    short.streams.captions.max_length = T + R - 1
    with pytest.raises(ValueError, match=f"max_length to max_text.*= {T + R}, found {T + R - 1}"):
        evaluator(make_task(short), head="alignment")

    broken = jax.tree.map(lambda x: x * jnp.nan, params)
    mesh = mesh_of()
    with jax.set_mesh(mesh), pytest.raises(ValueError, match="not finite"):
        evaluator(task, mesh=mesh).run(broken)
