"""Referring expressions: every object of a scene in up to three styles, each fitting it alone."""

from input_pipeline.datasets.records import Expression
from input_pipeline.datasets.scenes import graph, references, render, settings

_NOUNS = ("thing", "object", "one")


def expressions(scene: graph.Scene, seed: int) -> tuple[Expression, ...]:
    """Shortest expressions by attributes, by relation to another object, and by extreme position.

    A pure function of scene and seed. The box is the object's true one; the candidates are the
    true boxes of all objects, shuffled: a scene lists its objects from left to right, so their
    place in the list would be told by "at the very left". `ref_id` is unique in a split.
    """
    rng = graph.generator(seed, scene.image_id, "expressions")
    boxes = [tuple(map(float, box)) for box in render.true_boxes(scene)]
    candidates = tuple(boxes[i] for i in rng.permutation(len(boxes)))
    number = int(scene.image_id.rpartition("-")[2])
    made = []
    for i in range(len(boxes)):
        for style in references.STYLES:
            noun = _NOUNS[rng.integers(len(_NOUNS))]
            article = ("", "the ")[rng.integers(2)]
            text = style(scene, i, references.KINDS, rng, noun)
            if text is not None:
                made.append((number * settings.MOST_OBJECTS + i, article + text, boxes[i]))
    return tuple(
        Expression(
            text_id=f"{scene.image_id}-expression-{n}",
            ref_id=ref_id,
            image_id=scene.image_id,
            text=text,
            box=box,
            candidates=candidates,
        )
        for n, (ref_id, text, box) in enumerate(made)
    )
