"""Sentences about a scene that are true of it, or false by one word, in the manner of SNLI-VE.

The sentences are those of `cloze`, one of each kind; a coin decides which of them are made false,
as `cloze.swapped` does.
"""

from input_pipeline.datasets.records import Statement
from input_pipeline.datasets.scenes import captions, cloze, graph

LABELS = ("contradiction", "entailment")


def entailment(scene: graph.Scene, seed: int) -> tuple[Statement, ...]:
    """One statement of each kind of sentence: a pure function of scene and seed."""
    rng = graph.generator(seed, scene.image_id, "entailment")
    first: dict[int, captions.Sentence] = {}
    for source, sentence in cloze.cloze(scene, seed):
        first.setdefault(source, sentence)
    made = []
    for n, sentence in enumerate(first.values()):
        true = int(rng.integers(2))
        said = sentence if true else cloze.swapped(sentence, scene, n, seed)
        made.append(
            Statement(
                text_id=f"{scene.image_id}-entailment-{n}",
                image_ids=(scene.image_id,),
                text=said.text,
                label=true,
                label_name=LABELS[true],
            )
        )
    return tuple(made)
