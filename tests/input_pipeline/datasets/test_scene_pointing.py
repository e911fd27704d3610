"""Pointing and entailment on scenes: true, unambiguous, balanced."""

import collections

import numpy as np
import pytest
import scene_task_truth as truth

from input_pipeline.datasets.records import RowOptions
from input_pipeline.datasets.scenes import cloze, entailment, graph, pointing, render


@pytest.fixture(scope="module")
def drawn():
    return [graph.draw(0, "train", i, 2, 4) for i in range(300)]


@pytest.fixture(scope="module")
def asked(drawn):
    return [(scene, q) for scene in drawn for q in pointing.pointing(scene, 0)]


def test_a_question_means_its_target_and_nothing_else(asked):
    for scene, question in asked:
        text = question.text.removesuffix("?").replace("what is", "thing", 1)
        loose, plain = truth.referents(text, scene)
        boxes = [tuple(map(float, box)) for box in render.true_boxes(scene)]
        target = boxes.index(question.boxes[question.candidates[question.target]])
        assert [scene.objects.index(o) for o in plain] == [target], question.text
        assert [scene.objects.index(o) for o in loose] == [target], question.text


def test_candidates_are_all_objects_in_no_order(asked):
    places = collections.Counter()
    for scene, question in asked:
        assert sorted(question.boxes) == sorted(
            tuple(map(float, box)) for box in render.true_boxes(scene)
        )
        places[len(scene.objects), question.target] += 1
        (row,) = question.rows(RowOptions(kind="pointing", all_regions=True))
        assert len(row.values["option_boxes"]) == 4 * len(scene.objects)
    for count in (2, 3, 4):
        found = np.array([places[count, place] for place in range(count)])
        assert found.min() / found.max() > 0.6
    assert len({q.text_id for _, q in asked}) == len(asked) > 500


def test_statements_are_true_or_false_by_one_word(drawn):
    labels, texts = [], collections.defaultdict(list)
    for scene in drawn:
        true = {sentence.text for _, sentence in cloze.cloze(scene, 0)}
        for statement in entailment.entailment(scene, 0):
            assert statement.images == (scene.image_id,)
            assert (statement.text in true) == bool(statement.label)
            if not statement.label:
                said = statement.text.split()
                near = [t.split() for t in true if len(t.split()) == len(said)]
                assert any(sum(a != b for a, b in zip(said, t, strict=True)) == 1 for t in near)
            labels.append(statement.label)
            texts[statement.label_name].append(statement.text)
    assert abs(np.mean(labels) - 0.5) < 3 * 0.5 / len(labels) ** 0.5
    assert set(texts) == set(entailment.LABELS)


def test_records_are_functions_of_scene_and_seed(drawn):
    for make in (pointing.pointing, entailment.entailment):
        assert make(drawn[0], 0) == make(drawn[0], 0)
        assert [make(scene, 0) for scene in drawn[:9]] != [make(scene, 1) for scene in drawn[:9]]
