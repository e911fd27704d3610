"""Options of the embedded data set."""

from ml_collections import ConfigDict

from core.checks import one_of, whole
from core.errors import ConfigError
from input_pipeline.datasets.options import shared

# Shared options of files, which scenes bring themselves. Regions may be another detector's.
_FILES = ("vocab", "manual_dir", "tfds_dir")
RECORDS = (
    "captions",
    "cloze",
    "swapped",
    "questions",
    "expressions",
    "answers",
    "rationales",
    "statements",
    "pointing",
    "entailment",
)

OPTIONS = dict(
    records="captions",  # what is asked about a scene, see RECORDS
    **shared.ANSWERS,  # of questions
    scenes=dict(
        train=4000,  # images
        validation=400,
        test=400,
        seed=0,
        min_objects=2,
        max_objects=4,
        feature_dim=128,  # width of the region features
    ),
)
CHECKS = {
    "records": one_of(*RECORDS),
    **shared.ANSWER_CHECKS,
    "scenes.train": whole(1),
    "scenes.validation": whole(0),
    "scenes.test": whole(0),
    "scenes.seed": whole(0),
    "scenes.min_objects": whole(2),
    "scenes.max_objects": whole(2),
    "scenes.feature_dim": whole(1),
}


def require_together(where: str, block: ConfigDict) -> None:
    """Raises ConfigError where there is no possible number of objects, or files are named.

    A stream's block may follow that of another data set, which reads them.
    """
    given = [name for name in _FILES if block[name]] if where == "config.data" else []
    if given:
        raise ConfigError(
            "the embedded scenes are drawn, not read from files: a setting has no effect",
            where=f"{where}.{given[0]}",
            expected="'', or another data set",
            found=repr(block[given[0]]),
            fix="choose the data set where the config is made: --config=FILE:data=jsonl for one's "
            "own, data=vqa and so on for official files",
        )
    scenes = block.scenes
    if scenes.min_objects > scenes.max_objects:
        raise ConfigError(
            "scenes of no possible number of objects",
            where=f"{where}.scenes.min_objects",
            expected=f"at most max_objects, {scenes.max_objects}",
            found=scenes.min_objects,
        )
