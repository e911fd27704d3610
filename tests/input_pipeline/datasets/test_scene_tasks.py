"""The tasks made of scenes: true, unambiguous, balanced, and not to be told from the text."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
import scene_task_truth as truth

from input_pipeline.datasets.reading import answers as answers_lib
from input_pipeline.datasets.scenes import (
    expressions,
    graph,
    multiple_choice,
    pairs,
    probe,
    questions,
    task_priors,
)


def draw(split, count, least=2, most=4):
    return [graph.draw(0, split, i, least, most) for i in range(count)]


@pytest.fixture(scope="module")
def drawn():
    return draw("train", 500) + draw("validation", 60, 5, 6)


@pytest.fixture(scope="module")
def asked(drawn):
    return [(scene, q) for scene in drawn for q in questions.questions(scene, 0)]


@pytest.fixture(scope="module")
def referred(drawn):
    return [(scene, e) for scene in drawn for e in expressions.expressions(scene, 0)]


@pytest.fixture(scope="module")
def chosen(drawn):
    return [(scene, r) for scene in drawn for r in multiple_choice.multiple_choice(scene, 0)]


@pytest.fixture(scope="module")
def stated(drawn):
    return [(a, b, s) for a, b in itertools.pairwise(drawn) for s in pairs.statements(a, b, 0)]


def assert_even(labels, classes, errors=3.5):
    """Each of the classes is as frequent as any other, up to so many standard errors."""
    share = np.array([list(labels).count(c) for c in classes]) / len(labels)
    expected = 1 / len(classes)
    error = (expected * (1 - expected) / len(labels)) ** 0.5
    assert (abs(share - expected) < errors * error).all(), dict(zip(classes, share, strict=True))


# Everything.


@pytest.mark.parametrize(
    "make",
    [
        questions.questions,
        expressions.expressions,
        multiple_choice.multiple_choice,
        lambda scene, seed: pairs.statements(scene, draw("test", 1)[0], seed),
    ],
)
def test_a_task_is_a_function_of_scene_and_seed(make):
    scenes = draw("train", 12)
    made = [make(scene, 3) for scene in scenes]
    assert [make(scene, 3) for scene in scenes] == made
    assert [make(scene, 4) for scene in scenes] != made
    restored = [graph.Scene.from_json(scene.to_json()) for scene in scenes]
    assert [make(scene, 3) for scene in restored] == made
    ids = [record.text_id for own in made for record in own]
    assert len(set(ids)) == len(ids) > 20


def test_texts_are_lower_case_with_single_spaces(asked, referred, stated):
    for text in (t[-1].text for t in (*asked, *referred, *stated)):
        assert text == " ".join(text.lower().split())
        assert len(text.split()) <= 20


# Questions.


def test_answers_are_true(asked):
    for scene, q in asked:
        assert q.answers[0].text == truth.answer(q.text, scene), (q, scene)


def test_the_checker_of_questions_can_say_otherwise(asked):
    other = graph.Scene("x", 112, 112, (graph.Object("ball", "red", "small", "metal", 50, 50, 8),))
    found = [truth.answer(q.text, other) == q.answers[0].text
             for _, q in asked if q.question_type in ("is there", "how many")]  # fmt: skip
    assert 0.2 < np.mean(found) < 0.8


def test_questions_are_of_all_types(asked):
    count = collections.Counter((q.answer_type, q.question_type) for _, q in asked)
    assert {a for a, _ in count} == {"yes/no", "number", "other"}
    assert {q for a, q in count if a == "other"} == {
        *(f"what {kind}" for kind in graph.ATTRIBUTES),
        "where is",
    }
    assert min(count.values()) > 40
    assert all(q.image_id == scene.image_id for scene, q in asked)


def test_ten_annotators_of_whom_a_minority_errs(asked):
    wrong = []
    for _, q in asked:
        assert len(q.raw_answers) == 10
        main = q.answers[0].text
        assert q.raw_answers.count(main) >= 6
        scores = answers_lib.soft_scores(q.raw_answers, "verbatim")
        assert {a.text: a.score for a in q.answers} == scores
        assert answers_lib.accuracy(main, q.raw_answers) == 1
        wrong.append(10 - q.raw_answers.count(main))
        if q.answer_type == "yes/no":
            assert set(q.raw_answers) <= {"yes", "no"}
        if q.answer_type == "number":
            assert all(abs(int(a) - int(main)) <= 1 for a in q.raw_answers)
    assert 0.04 < np.mean(wrong) / 10 < 0.1
    assert 0.3 < np.mean(np.array(wrong) > 0) < 0.6


def test_answers_are_balanced(asked):
    of = collections.defaultdict(list)
    for _, q in asked:
        of[q.question_type if q.answer_type == "other" else q.answer_type].append(q.answers[0].text)
    assert_even(of["yes/no"], ("yes", "no"))
    for kind, words in graph.ATTRIBUTES.items():
        assert_even(of[f"what {kind}"], words)
    assert_even(of["where is"], ("left", "right", "above", "below"))
    assert set(of["number"]) == {"0", "1", "2", "3"}


@pytest.mark.parametrize("objects", [2, 4])
def test_counts_are_distributed_alike_in_every_form(objects):
    scenes = draw("train", 1500, objects, objects)
    of = collections.defaultdict(list)
    rng = np.random.default_rng(0)
    for scene in scenes:
        for text, answer, _, _ in questions._how_many(scene, rng):
            kinds = {truth._KIND_OF.get(w.removesuffix("s"), "") for w in text.split()}
            of[" or " in text, *sorted(kinds)].append(answer)
    assert len(of) == 7
    pooled = [a for given in of.values() for a in given]
    for form, given in of.items():
        assert len(given) > 200
        for count in set(pooled):
            share = pooled.count(count) / len(pooled)
            error = (share * (1 - share) / len(given)) ** 0.5
            assert abs(given.count(count) / len(given) - share) < 4 * error, (form, count)


def test_a_question_mentions_no_word_of_the_kind_it_asks_for(asked):
    for _, q in asked:
        kind = q.question_type.removeprefix("what ")
        assert not set(graph.ATTRIBUTES.get(kind, ())) & set(q.text.strip("?").split())


# Expressions.


def test_expressions_fit_one_object_alone(referred):
    for scene, e in referred:
        o = truth.the(e.text, scene)
        x1, y1, x2, y2 = e.box
        assert (x1 < o.x < x2) and (y1 < o.y < y2), (e, scene)  # noqa: PT018


def test_the_checker_of_expressions_sees_ambiguity():
    scene = next(s for s in draw("train", 50) if len({o.shape for o in s.objects}) == 1)
    with pytest.raises(AssertionError):
        truth.the(f"the {scene.objects[0].shape}", scene)


def test_no_shorter_attributes_would_do(referred):
    for scene, e in referred:
        said = [w for w in e.text.split() if w in truth._KIND_OF]
        if len(said) < 2 or len(e.text.removeprefix("the ").split()) > len(said) + 1:
            continue  # one word, or a position
        for left_out in said:
            rest = [w for w in said if w != left_out]
            assert len(truth.matching(" ".join([*rest, "thing"]), scene)) > 1, (e, scene)


def test_candidates_are_all_objects_in_no_telling_order(referred):
    places = collections.defaultdict(list)
    for scene, e in referred:
        assert len(set(e.candidates)) == len(e.candidates) == len(scene.objects)
        places[len(e.candidates)].append(e.candidates.index(e.box))
    assert_even(places[2], range(2), errors=5)  # a scene's expressions share one order
    assert_even(places[4], range(4), errors=5)


def test_expressions_come_in_three_styles_for_most_objects(drawn, referred):
    style = collections.Counter(
        "extreme" if {"far", "very"} & set(e.text.split())
        else "relation" if e.text.removeprefix("the ").count(" the ") else "attributes"
        for _, e in referred
    )  # fmt: skip
    objects = sum(len(s.objects) for s in drawn)
    assert min(style.values()) > 0.4 * objects
    ids = {(e.ref_id, e.box) for _, e in referred if e.image_id.startswith("train")}
    assert len({ref for ref, _ in ids}) == len(ids)


# Multiple choice.


def place_of(record, scene):
    """The scene's object for each object of the record, by the centre of its box."""
    found = []
    for o in record.objects:
        x, y = (o.box[0] + o.box[2]) / 2, (o.box[1] + o.box[3]) / 2
        found.append(min(scene.objects, key=lambda s: (s.x - x) ** 2 + (s.y - y) ** 2))
        assert found[-1].shape == o.name
    assert len({id(o) for o in found}) == len(scene.objects)
    return found


def test_exactly_one_choice_is_true(chosen):
    for scene, r in chosen:
        objects = place_of(r, scene)
        said = [truth.claims(a) for a in r.answers]
        assert [all(truth.holds(c, objects) for c in own) for own in said] == [
            i == r.answer_label for i in range(4)
        ], (r, scene)
        reasons = [truth.claims(a) for a in r.rationales]
        assert [all(truth.holds(c, objects) for c in own) for own in reasons] == [
            i == r.rationale_label for i in range(4)
        ], (r, scene)
        # Every rationale agrees with the right answer and says more.
        right = set(said[r.answer_label])
        assert all(right < set(own) for own in reasons)


def test_questions_mention_what_their_answers_are_about(chosen):
    forms = collections.Counter(r.text_id.rpartition("-")[2] for _, r in chosen)
    assert set(forms) == set(multiple_choice.FORMS)
    for _, r in chosen:
        asked_of = {i for t in r.question for i in t.objects}
        for choice in r.answers:
            assert asked_of <= {i for t in choice for i in t.objects}
        assert (r.height, r.width) == (graph.HEIGHT, graph.WIDTH)
    assert any(len(t.objects) == 2 for _, r in chosen for t in r.question)


def test_choices_are_placed_evenly_and_alike(chosen):
    assert_even([r.answer_label for _, r in chosen], range(4))
    assert_even([r.rationale_label for _, r in chosen], range(4))
    first = [i for _, r in chosen for t in r.question for i in t.objects if len(r.objects) == 4]
    assert_even(first, range(4), errors=5)
    for _, r in chosen:
        for choices in (r.answers, r.rationales):
            # No choice shares more words with the others than the next.
            words = [{t.word for t in c if t.word in truth._KIND_OF} for c in choices]
            assert len(set(choices)) == 4
            together = [sum(len(own & other) for other in words) for own in words]
            form = r.text_id.rpartition("-")[2]
            if form != "both" and not (form == "where" and choices is r.rationales):
                assert len(set(together)) == 1, r


def test_wrong_colours_are_those_of_other_objects(chosen):
    asked = [(scene, r) for scene, r in chosen if r.text_id.endswith("-colour")]
    assert asked
    for scene, r in asked:
        said = {t.word for a in r.answers for t in a} & set(graph.COLOURS)
        there = {o.colour for o in scene.objects}
        assert there <= said or len(there) > 4


def test_a_scene_without_a_plain_relation_asks_nothing():
    balls = [graph.Object("ball", "red", "small", "metal", x, x, 8) for x in (20, 80)]
    assert multiple_choice.multiple_choice(graph.Scene("a-000000", 112, 112, tuple(balls)), 0) == ()


# Statements about two images.


def test_statements_are_what_their_label_says(stated):
    for a, b, s in stated:
        if "objects" in s.text:
            more = len(a.objects) > len(b.objects)
            assert len(a.objects) != len(b.objects)
            assert s.label == (more == ("more" in s.text))
        else:
            assert s.label == truth.statement(s.text, a, b), (s, a, b)
        assert s.label_name == ("False", "True")[s.label]
        assert s.image_ids == (a.image_id, b.image_id)


def test_statements_are_balanced(stated):
    assert len(stated) > 1400
    assert_even([s.label for *_, s in stated], (0, 1))
    first = collections.defaultdict(list)
    for *_, s in stated:
        first[" ".join(s.text.split()[:2])].append(s.label)
    for start, labels in first.items():
        assert len(labels) < 30 or abs(np.mean(labels) - 0.5) < 2 / len(labels) ** 0.5, start


def test_statements_need_both_images(drawn, stated):
    """With another left image, or another right one, the answer changes often enough."""
    for kept in (0, 1):
        changed = []
        for n, (*scenes, s) in enumerate(stated):
            scenes[kept] = drawn[n % 400]
            if "objects" not in s.text:
                changed.append(truth.statement(s.text, *scenes) != s.label)
        assert 0.1 < np.mean(changed) < 0.7


# Text alone.


@pytest.mark.slow
def test_the_text_alone_does_not_tell():
    table = task_priors.measure(
        task_priors.sample(0, "train", 1500), task_priors.sample(0, "validation", 1500), 0
    )
    print(probe.format_table(table))
    assert {task.partition(":")[0] for task in table} == {
        "question", "expression", "choice", "statement"
    }  # fmt: skip
    for task, row in table.items():
        assert row["gain"] < max(0.02, 2.5 * row["error"]), task


@pytest.mark.parametrize(
    "right",
    [
        "it is a right one",  # a word of its own
        "it is a b",  # the one that all others were made from
    ],
)
def test_the_baseline_of_choices_finds_a_leak(right):
    rng = np.random.default_rng(0)
    wrong = ["it is a x", "it is c b", "it is y b"]

    def leaky(n):
        for label in rng.integers(4, size=n).tolist():
            choices = [*wrong[:label], right, *wrong[label:]]
            names = dict(zip("abcxy", rng.permutation(list("abcxy")), strict=True))
            yield "what ?", [" ".join(names.get(w, w) for w in c.split()) for c in choices], label

    row = task_priors._choose(list(leaky(300)), list(leaky(100)))
    assert row["prior"] == 0.25
    assert row["text_only"] > 0.9


def test_the_baseline_of_texts_finds_a_leak(monkeypatch):
    honest = pairs.statements

    def leaky(*args):
        return tuple(dataclasses.replace(s, text=f"{s.text} {s.label}") for s in honest(*args))

    monkeypatch.setattr(pairs, "statements", leaky)
    seen, unseen = (
        task_priors._texts(draw(split, n), 0)["statement"]
        for split, n in (("train", 60), ("validation", 30))
    )
    row = probe.row(seen, unseen)
    assert row["text_only"] - row["prior"] > 0.3
