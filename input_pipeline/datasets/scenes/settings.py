"""What a set of scenes depends on, its checks, and the folder name it is kept under."""

import dataclasses
import hashlib
import json

from core.errors import DataError

# Part of the folder's name: raise it whenever the same settings would draw anything else.
VERSION = "2.0.0"

SPLITS = ("train", "validation", "test")
# With the distance that objects keep (graph.py), more do not reliably fit a picture.
MOST_OBJECTS = 6
# Scenes of no split; their captions are the text-only corpus, five sentences a scene.
CORPUS_SCENES = 1000


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the bytes of a build. The field names are those of the config."""

    train: int  # images
    validation: int
    test: int
    seed: int
    min_objects: int
    max_objects: int
    feature_dim: int
    vocab_size: int

    def __post_init__(self):
        if not 2 <= self.min_objects <= self.max_objects <= MOST_OBJECTS:
            raise DataError(
                "scenes cannot hold this many objects",
                where="config.data.scenes.min_objects, max_objects",
                expected=f"2 <= min_objects <= max_objects <= {MOST_OBJECTS}",
                found=f"{self.min_objects}, {self.max_objects}",
                fix="captions relate two objects, and more than the limit do not fit a picture",
            )
        least = {"train": 1, "validation": 0, "test": 0, "seed": 0, "feature_dim": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise DataError(
                    f"{name} is too small",
                    where=f"config.data.scenes.{name}",
                    expected=f">= {value}",
                    found=getattr(self, name),
                )

    @classmethod
    def from_config(cls, data) -> "Settings":
        """Reads the `data` block of a config (configs/common.py)."""
        return cls(vocab_size=int(data.vocab_size), **{k: int(v) for k, v in data.scenes.items()})

    @property
    def splits(self) -> dict[str, int]:
        """{split: images}; a split without images does not exist."""
        return {split: n for split in SPLITS if (n := getattr(self, split))}

    @property
    def key(self) -> str:
        """Readable name with a hash of all fields and VERSION: a changed setting builds anew."""
        everything = json.dumps([VERSION, dataclasses.asdict(self)], sort_keys=True)
        digest = hashlib.sha256(everything.encode()).hexdigest()[:8]
        return (
            f"{self.train}-{self.validation}-{self.test}_images"
            f"-{self.min_objects}to{self.max_objects}_objects"
            f"-f{self.feature_dim}-seed{self.seed}-{digest}"
        )

    def to_dict(self) -> dict[str, int]:
        return dataclasses.asdict(self)
