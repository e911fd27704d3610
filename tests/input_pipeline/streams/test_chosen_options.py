"""Pointing from official files to batches: which region shows which option, and which is right."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from made_data import write_images

from configs import pointing as config_file
from input_pipeline.regions import FeatureSpec
from input_pipeline.schema import SpecialIds
from input_pipeline.streams import pipeline
from objectives import assemble, base
from objectives.grounding import Grounding

SPEC = FeatureSpec("toy", 6)
# A rider and her horse, of which the one overlaps the other by 0.8, and a far tree: x, y, w, h.
OPTIONS = ([20, 20, 100, 100], [20, 20, 100, 80], [220, 20, 60, 150])


@pytest.fixture(params=["visual7w", "guesswhat"])
def config(request, tmp_path):
    """Four images; the right option is the first one, which is the rider or the horse in turn."""
    images, boxes, games, stored = [], [], [], []
    for i in range(1, 5):
        own = OPTIONS if i % 2 else (OPTIONS[1], OPTIONS[0], OPTIONS[2])
        ids = [10 * i + k for k in range(3)]
        boxes += [
            dict(box_id=box, x=x, y=y, width=w, height=h, image_id=i, name="x")
            for box, (x, y, w, h) in zip(ids, own, strict=True)
        ]
        question = dict(qa_id=i, question="Which one?", answer=ids[0], multiple_choices=ids[1:])
        split = "train" if i < 3 else "val"
        images.append(dict(image_id=i, filename="x.jpg", split=split, qa_pairs=[question]))
        objects = [dict(id=box, bbox=place) for box, place in zip(ids, own, strict=True)]
        games.append(dict(
            id=i, image=dict(id=i, width=300, height=200), objects=objects, object_id=ids[0],
            status="success", qas=[dict(question="is it tall?", answer="Yes")],
        ))  # fmt: skip
        xyxy = np.array([[x, y, x + w, y + h] for x, y, w, h in own[::-1]], np.float32)
        arguments = dict(boxes=xyxy, features=np.eye(3, 6, dtype=np.float32), height=200, width=300)
        stored.append((str(i), arguments))
    (tmp_path / "dataset_v7w_pointing.json").write_text(
        json.dumps(dict(images=images, boxes=boxes))
    )
    for split, part in (("train", games[:2]), ("valid", games[2:])):
        lines = "".join(json.dumps(game) + "\n" for game in part)
        (tmp_path / f"guesswhat.{split}.jsonl").write_text(lines)
    write_images(tmp_path / "store", SPEC, *stored)
    made = config_file.get_config(f"model=vilbert,data={request.param}")
    made.data.update(
        dir=str(tmp_path / "cache"), manual_dir=str(tmp_path), regions=str(tmp_path / "store"),
        vocab_size=150,
    )  # fmt: skip
    made.streams.examples.update(batch_size=2, max_text=12, max_regions=5, max_length=17)
    return made


def test_an_option_that_overlaps_the_right_one_is_wrong(config):
    layouts = {"examples": assemble.caption}
    batch = pipeline.build_evaluation(
        config, "examples", layouts, batch_size=2, image_margin=0
    ).batch(0)
    # The store has the boxes in the other order; row 0 is the whole image.
    assert batch["option_region"].tolist() == [[3, 2, 1]] * 2
    assert batch["label"].tolist() == [[0]] * 2
    assert batch["candidate_mask"].tolist() == [[[False, True, True, True, False]]] * 2
    assert (batch["region_iou"][:, 0, 2] > 0.75).all()  # the wrong one
    special = SpecialIds(0, 1, 2, 3, 4, 150)
    info = base.DataInfo(special, 12, SPEC.feature_dim, 0, stored_mean=True)
    objective = Grounding("grounding", config.objectives.grounding, info)
    arrays = {key: jnp.asarray(value) for key, value in batch.items()}
    for best, right in ((2, 0), (3, 2)):
        logits = jnp.zeros((2, 5)).at[:, best].set(1.0)
        found = objective.metrics(logits, arrays)
        assert [float(x) for x in found["grounding_accuracy"]] == [right, 2]
        assert [float(x) for x in found["grounding_upper_bound"]] == [2, 2]
    assert [float(x) for x in objective.guesses(arrays)["grounding_accuracy"]] == pytest.approx(
        [2 / 3, 2]
    )
