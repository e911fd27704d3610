"""The embedded data set: determinism, true captions, disjoint splits, nothing told by text."""

import collections
import dataclasses
import json

import numpy as np
import pytest
from scene_truth import is_true

from core.errors import DataError
from input_pipeline.datasets import scenes
from input_pipeline.datasets.scenes import (
    captions,
    cloze,
    detector,
    foreign,
    graph,
    probe,
    render,
)
from input_pipeline.texts.tables import Row


def draw(split, count, seed=0):
    return [graph.draw(seed, split, i, 2, 4) for i in range(count)]


def find(drawn, noise=detector.Noise()):  # noqa: B008
    return [detector.find(s, graph.generator(0, s.image_id, "detector"), noise) for s in drawn]


def pictures(drawn):
    return np.stack([render.render(s, graph.generator(0, s.image_id, "picture")) for s in drawn])


# What is drawn.


def test_a_scene_depends_on_its_own_index_only():
    assert draw("train", 20)[13] == graph.draw(0, "train", 13, 2, 4)
    assert graph.draw(0, "train", 13, 2, 4) != graph.draw(1, "train", 13, 2, 4)


def test_a_scene_survives_json():
    for scene in draw("train", 20):
        assert graph.Scene.from_json(scene.to_json()) == scene


def test_splits_share_no_scene():
    keys = {split: {s.key() for s in draw(split, 400)} for split in graph.BUCKETS}
    names = sorted(keys)
    for i, a in enumerate(names):
        assert len(keys[a]) > 350
        for b in names[i + 1 :]:
            assert not keys[a] & keys[b]


def test_a_shifted_scene_is_the_same_scene():
    scene = draw("train", 1)[0]
    moved = json.loads(scene.to_json())
    for o in moved["objects"]:
        o["x"] += 1
    assert graph.Scene.from_json(json.dumps(moved)).key() == scene.key()


def test_attributes_are_uniform_and_independent_of_each_other():
    drawn = draw("train", 3000)
    objects = [o for s in drawn for o in s.objects]
    for kind, words in graph.ATTRIBUTES.items():
        share = np.array([sum(getattr(o, kind) == w for o in objects) for w in words])
        np.testing.assert_allclose(share / len(objects), 1 / len(words), atol=0.025)
    same = np.mean([s.objects[0].colour == s.objects[1].colour for s in drawn])
    assert abs(same - 1 / 6) < 0.025
    assert {len(s.objects) for s in drawn} == {2, 3, 4}


@pytest.mark.parametrize("most", [2, 6])
def test_objects_stay_inside_and_apart(most):
    for i in range(50):
        scene = graph.draw(3, "test", i, most, most)
        boxes = render.true_boxes(scene)
        assert len(scene.objects) == most
        assert (boxes >= 0).all()
        assert (boxes <= [scene.width, scene.height] * 2).all()
        for i, _, j in scene.relations():
            a, b = scene.objects[i], scene.objects[j]
            assert np.hypot(a.x - b.x, a.y - b.y) >= a.radius + b.radius
            assert scene.relation(i, j) == graph.OPPOSITE[scene.relation(j, i)]


@pytest.mark.parametrize("limits", [(1, 4), (3, 2), (2, 7)])
def test_impossible_numbers_of_objects_are_told(limits):
    with pytest.raises(DataError, match="min_objects"):
        scenes.Settings(4, 1, 1, 0, *limits, 8, 300)


# Captions.


def test_captions_are_true():
    for scene in draw("train", 400) + draw("validation", 100):
        texts = captions.captions(scene, 0)
        assert len(texts) == 5
        for caption in texts:
            assert is_true(caption.text, scene), (caption.text, scene)
            assert captions.true_of(caption, scene), (caption, scene)
            assert caption.text == " ".join(caption.text.lower().split())
            assert len(caption.text.split()) <= 20


def test_the_checker_of_captions_can_say_no():
    scene = next(s for s in draw("train", 50) if len({o.colour for o in s.objects}) > 1)
    right = [c.text for c in captions.captions(scene, 0)]
    absent = next(c for c in graph.COLOURS if c not in {o.colour for o in scene.objects})
    assert is_true(right[0], scene)
    assert not is_true(f"there is a {absent} ball", scene)
    a, b = scene.objects[:2]
    relation = scene.relation(0, 1)
    claim = "a {} {} is {} a {} {}"
    assert is_true(claim.format(a.colour, a.shape, relation, b.colour, b.shape), scene)
    if len(scene.objects) == 2:
        wrong = claim.format(b.colour, b.shape, relation, a.colour, a.shape)
        assert not is_true(wrong, scene)


ATTRIBUTE_WORDS = {word for words in graph.ATTRIBUTES.values() for word in words}


def spans(text):
    """(start, end, word) of each word."""
    start = 0
    for word in text.split():
        yield start, start + len(word), word
        start += len(word) + 1


def test_every_attribute_and_place_is_marked_with_its_kind_and_directions_of_pairs():
    kinds, seen = list(captions.KINDS), collections.Counter()
    for scene in draw("train", 200):
        for form, caption in zip(captions.FORMS, captions.captions(scene, 0), strict=True):
            marked = {(start, end): kinds[kind] for start, end, kind in caption.probe}
            words = {at: caption.text[slice(*at)] for at in marked}
            assert all(words[at] in captions.KINDS[kind] for at, kind in marked.items())
            attributes = {(a, b) for a, b, word in spans(caption.text) if word in ATTRIBUTE_WORDS}
            assert attributes == {at for at, kind in marked.items() if kind in graph.ATTRIBUTES}
            seen.update((form, kind, len(scene.objects) > 2) for kind in marked.values())
            assert marked
    # A chain of two objects is a pair.
    directions = {
        form for form, kind, many in seen if many and kind in ("left_right", "above_below")
    }
    assert "pair" in directions
    assert "chain" not in directions
    assert {form for form, kind, _ in seen if kind == "place"} == {"extreme"}


def test_words_speak_of_the_object_whose_they_are():
    for scene in draw("train", 200):
        for caption in captions.captions(scene, 0):
            said = collections.defaultdict(list)
            for start, end, number in caption.mentions:
                said[number].append(caption.text[start:end])
            assert len(said) == len(caption.claims.mentions)
            for number, words in said.items():
                o = scene.objects[number]
                own = {o.shape, o.colour, o.size, o.material}
                assert ATTRIBUTE_WORDS & set(words) <= own
            spoken = {(start, end) for start, end, _ in caption.mentions}
            assert {(a, b) for a, b, w in spans(caption.text) if w in ATTRIBUTE_WORDS} <= spoken


def replaced(text, start, end, word):
    return text[:start] + word + text[end:]


def test_a_word_is_the_only_one_where_no_other_makes_the_caption_true():
    share = []
    for scene in draw("validation", 60):
        for caption in captions.captions(scene, 0):
            for number, (start, end, kind) in enumerate(caption.probe):
                words = captions.KINDS[list(captions.KINDS)[kind]]
                others = [w for w in words if w != caption.text[start:end]]
                told = [is_true(replaced(caption.text, start, end, w), scene, 6) for w in others]
                share.append(not any(told))
                assert captions.only_one(caption, number, scene) == share[-1], caption
    assert 0.8 < np.mean(share) < 1


def test_cloze_texts_are_true_with_their_word_alone():
    kinds, seen = list(captions.KINDS), collections.Counter()
    for scene in draw("train", 80):
        for source, sentence in cloze.cloze(scene, 0):
            ((start, end, kind),) = sentence.probe
            assert cloze.SOURCES[source].endswith(f": {kinds[kind]}")
            assert is_true(sentence.text, scene), (sentence.text, scene)
            for word in captions.KINDS[kinds[kind]]:
                if word != sentence.text[start:end]:
                    text = replaced(sentence.text, start, end, word)
                    assert not is_true(text, scene, 6), (text, scene)
            seen[source] += 1
    assert set(seen) == set(range(len(cloze.SOURCES)))


def test_swapped_texts_are_false_and_differ_in_one_word():
    words = collections.defaultdict(collections.Counter)
    for scene in draw("train", 60):
        for n, (_, sentence) in enumerate(cloze.cloze(scene, 0)):
            false = cloze.swapped(sentence, scene, n, 0)
            assert false == cloze.swapped(sentence, scene, n, 0)
            ((start, end, kind),), ((a, b, same),) = sentence.probe, false.probe
            assert (a, same) == (start, kind)
            assert false.text == replaced(sentence.text, start, end, false.text[a:b])
            assert not is_true(false.text, scene, 6), (false.text, scene)
            for before, after in zip(sentence.mentions, false.mentions, strict=True):
                if before[:2] != (start, end):
                    words_of = (sentence.text[slice(*before[:2])], false.text[slice(*after[:2])])
                    assert words_of[0] == words_of[1]
            words[kind][false.text[a:b]] += 1
    for kind, name in enumerate(captions.KINDS):
        assert set(words[kind]) == set(captions.KINDS[name])


def test_plain_sentences_name_one_object():
    for scene in draw("train", 80):
        for source, sentence in cloze.cloze(scene, 0):
            if source >= len(captions.KINDS):
                continue
            ((start, end, _),) = sentence.probe
            about = next(n for a, b, n in sentence.mentions if (a, b) == (start, end))
            said = [sentence.text[a:b] for a, b, n in sentence.mentions if n == about and a < start]
            named = ATTRIBUTE_WORDS & set(said)
            fitting = [o for o in scene.objects
                       if named <= {o.shape, o.colour, o.size, o.material}]  # fmt: skip
            assert fitting == [scene.objects[about]], (sentence.text, scene)


def test_the_text_alone_does_not_tell_probe_words():
    table = probe.measure(probe.sample(0, "train", 3000), probe.sample(0, "validation", 2000))
    print(probe.format_table(table))
    # Half the slots of a size or a material are right by chance: allow for their few numbers.
    for kind, row in table.items():
        allowed = 0.02 if kind in ("all", "colour", "shape") else 2.5 * row["error"]
        assert row["gain"] < allowed, kind
    assert table["all"]["prior"] < 0.25


def test_the_text_alone_does_not_tell_cloze_words():
    def sample(split, count):
        found = ([], [])
        for scene in draw(split, count):
            for source, sentence in cloze.cloze(scene, 0):
                found[source >= len(captions.KINDS)].append(sentence)
        return found

    for train, validation in zip(sample("train", 1200), sample("validation", 800), strict=True):
        table = probe.measure(train, validation)
        print(probe.format_table(table))
        assert set(table) == {*captions.KINDS, "all"}
        for kind, row in table.items():
            allowed = 0.02 if kind == "all" else max(0.03, 2.5 * row["error"])
            assert row["gain"] < allowed, kind


def test_the_baseline_finds_a_leak():
    # The word before the slot gives the colour away.
    rng = np.random.default_rng(0)

    def leaky(n):
        for colour in rng.choice(graph.COLOURS, n):
            text = f"a {'x' + colour[:1]} {colour} ball"
            yield Row(None, text, "", ((5, 5 + len(colour), 0),))

    table = probe.measure(list(leaky(500)), list(leaky(200)))
    assert table["colour"]["gain"] > 0.5


# Captions of other images.


def test_truth_of_other_scenes_is_what_the_independent_checker_says():
    # Many objects, so that relations too are often true of another scene.
    busy = [graph.draw(5, "train", i, 6, 6) for i in range(8)]
    said = collections.Counter()
    for scene in draw("validation", 60) + busy:
        for form, caption in zip(captions.FORMS, captions.captions(scene, 0), strict=True):
            for other in busy:
                answer = captions.true_of(caption, other)
                assert answer == is_true(caption.text, other, doubt=6), (caption, other)
                said[form, answer] += 1
    assert len(said) == 10
    assert min(said.values()) >= 10


def row_of(*objects):
    """A scene of (colour, x, y): small rubber balls."""
    made = (graph.Object("ball", colour, "small", "rubber", x, y, 8) for colour, x, y in objects)
    return graph.Scene("train-000000", 112, 112, tuple(made))


def claim(*mentions, **more):
    return captions.Caption("", (), (), captions.Claims(mentions, **more))


def test_truth_asks_for_different_objects():
    one, two = row_of(("red", 20, 20), ("blue", 80, 20)), row_of(("red", 20, 20), ("red", 80, 20))
    pair = claim(("red", "ball"), ("red",))
    assert not captions.true_of(pair, one)
    assert captions.true_of(pair, two)
    left = {"relations": ((0, "left of", 1),)}
    assert captions.true_of(claim(("red",), ("ball",), **left), one)
    assert not captions.true_of(claim(("ball",), ("red",), **left), one)
    assert not captions.true_of(claim(("red", "cube")), one)
    # One object must fit all that is said of it.
    chain = {"relations": ((0, "left of", 1), (0, "above", 2))}
    three = row_of(("red", 20, 80), ("red", 20, 20), ("blue", 80, 95), ("gray", 25, 108))
    assert not captions.true_of(claim(("red",), ("blue",), ("red",), **chain), three)
    assert captions.true_of(claim(("red",), ("blue",), ("gray",), **chain), three)


def test_a_few_pixels_of_doubt_count_as_true():
    def above(dx):
        scene = row_of(("red", 20, 20), ("blue", 20 + dx, 60))
        return captions.true_of(claim(("red",), ("blue",), relations=((0, "above", 1),)), scene)

    def top(y):
        scene = row_of(("red", 20, 40), ("blue", 80, y))
        return captions.true_of(claim(("red",), extremes=((0, "at the very top"),)), scene)

    assert [above(dx) for dx in (0, 40, 46, 47)] == [True, True, True, False]
    assert [top(y) for y in (80, 40, 35, 34)] == [True, True, True, False]


def test_foreign_captions_are_false_and_evenly_dealt():
    drawn = draw("train", 120)
    texts = [captions.captions(s, 0) for s in drawn]
    by_name = {f"{s.image_id}-{n}": (i, c)
               for i, s in enumerate(drawn) for n, c in enumerate(texts[i])}  # fmt: skip
    dealt, used = foreign.deal(drawn, texts, 0), collections.Counter()
    for i, scene in enumerate(drawn):
        for names in dealt[i]:
            used.update(names)
            for other, caption in map(by_name.get, names):
                assert other != i
                assert not is_true(caption.text, scene, doubt=6), (caption, scene)
    # The text tells nothing: every caption is as often foreign as any other.
    assert set(used.values()) == {foreign.WIDTH}
    assert len(used) == 600
    assert foreign.deal(drawn, texts, 0) == dealt
    assert foreign.deal(drawn, texts, 1) != dealt
    test = [dataclasses.replace(s, image_id=s.image_id.replace("train", "test")) for s in drawn]
    assert {n.replace("test", "train") for n in foreign.deal(test, texts, 0)[0][0]} != {
        *dealt[0][0]
    }


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_tiny_split_deals_what_it_has(images):
    drawn = draw("test", images)
    texts = [captions.captions(s, 0) for s in drawn]
    for scene, own in zip(drawn, foreign.deal(drawn, texts, 0), strict=True):
        assert len(own) == 5
        for names in own:
            assert (images > 1) == bool(names)
            for name in names:
                image, _, number = name.rpartition("-")
                index = int(image.rpartition("-")[2])
                assert image != scene.image_id
                assert not captions.true_of(texts[index][int(number)], scene)


# Detector.


def test_the_detector_errs_as_configured():
    drawn = draw("train", 2000)
    found, noise = find(drawn), detector.Noise()
    objects = sum(len(s.objects) for s in drawn)
    hits = sum((r.objects >= 0).sum() for r in found)
    assert abs(1 - hits / objects - noise.missed) < 0.012
    assert abs(np.mean([(r.objects < 0).sum() for r in found]) - noise.spurious) < 0.04
    assert min(len(r.boxes) for r in found) >= 1
    shifts, right, background = [], [], []
    for scene, r in zip(drawn, found, strict=True):
        assert (r.boxes >= 0).all()
        assert (r.boxes <= [scene.width, scene.height] * 2).all()
        assert (r.boxes[:, 2:] > r.boxes[:, :2]).all()
        np.testing.assert_allclose(r.class_probs.sum(1), 1, atol=1e-5)
        truth = render.true_boxes(scene)
        for box, probs, i in zip(r.boxes, r.class_probs, r.objects, strict=True):
            if i < 0:
                background.append(probs.argmax() == 0)
                continue
            side = np.tile(truth[i, 2:] - truth[i, :2], 2)
            shifts.append((box - truth[i]) / side)
            right.append(probs.argmax() == detector.class_of(scene.objects[i]))
    assert abs(np.std(shifts) - noise.jitter) < 0.003
    assert 0.85 < np.mean(right) < 0.97
    assert np.mean(background) > 0.8


def test_a_detector_without_noise_is_right():
    noise = detector.Noise(jitter=0, missed=0, spurious=0, logit_noise=0)
    for scene, r in zip(draw("test", 30), find(draw("test", 30), noise), strict=True):
        assert sorted(r.objects) == list(range(len(scene.objects)))
        np.testing.assert_array_equal(r.boxes, render.true_boxes(scene)[r.objects])
        assert r.class_probs.argmax(1).tolist() == [
            detector.class_of(scene.objects[i]) for i in r.objects
        ]


def test_features_hold_colour_shape_and_material():
    from sklearn.linear_model import LogisticRegression

    drawn = draw("train", 600)
    found = find(drawn)
    features = np.concatenate(detector.features(pictures(drawn), [r.boxes for r in found], 128))
    objects = [s.objects[i] if i >= 0 else None
               for s, r in zip(drawn, found, strict=True) for i in r.objects]  # fmt: skip
    real = np.array([o is not None for o in objects])
    half = len(real) * 2 // 3
    for kind in ("colour", "shape", "material"):
        words = np.array([getattr(o, kind) if o else "" for o in objects])
        model = LogisticRegression(max_iter=200).fit(
            features[:half][real[:half]], words[:half][real[:half]]
        )
        assert model.score(features[half:][real[half:]], words[half:][real[half:]]) > 0.95, kind


def test_features_of_an_image_do_not_depend_on_its_company():
    drawn = draw("train", 9)
    boxes = [r.boxes for r in find(drawn)]
    together = detector.features(pictures(drawn), boxes, 40)
    for i in range(9):
        (alone,) = detector.features(pictures(drawn[i : i + 1]), boxes[i : i + 1], 40)
        np.testing.assert_array_equal(alone, together[i])
