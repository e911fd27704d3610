"""Questions whose answer is one of a scene's objects, in the manner of Visual7W's pointing."""

from input_pipeline.datasets.records import Pointing
from input_pipeline.datasets.scenes import graph, references, render

# Which object a question means is told by where it is, or by where it is to another one.
_STYLES = (references.by_relation, references.by_extreme)
_OPENING = "what is"


def pointing(scene: graph.Scene, seed: int) -> tuple[Pointing, ...]:
    """A question of each style for each object that it singles out, all objects as candidates.

    A pure function of scene and seed. Candidates are shuffled: a scene lists its objects from left
    to right, and so their place in the list would be told by "at the very left".
    """
    rng = graph.generator(seed, scene.image_id, "pointing")
    boxes = [tuple(map(float, box)) for box in render.true_boxes(scene)]
    order = rng.permutation(len(boxes)).tolist()
    made = []
    for i in range(len(boxes)):
        for style in _STYLES:
            text = style(scene, i, (), rng, _OPENING)
            if text is not None:
                made.append((f"{text}?", order.index(i)))
    return tuple(
        Pointing(
            text_id=f"{scene.image_id}-pointing-{n}",
            image_id=scene.image_id,
            text=text,
            boxes=tuple(boxes[i] for i in order),
            candidates=tuple(range(len(boxes))),
            target=target,
        )
        for n, (text, target) in enumerate(made)
    )
