"""Scenes: objects with shape, colour, size and material, their positions and relations.

Everything else (pictures, regions, captions, and any task added later) is a function of a scene
and of `generator(seed, image_id, purpose)`, so a new task changes neither pictures nor splits.

All attributes are drawn independently and uniformly, with replacement, and positions are drawn
without a look at them. That is what keeps one word of a caption from telling another: objects
forced to differ, or large objects kept away from the border, would already leak.
"""

import dataclasses
import hashlib
import json
import zlib

import numpy as np

# Index = class; `gray` is drawn darker than any background.
COLOURS = ("red", "green", "blue", "yellow", "purple", "gray")
SHAPES = ("ball", "cube", "cone", "ring", "star")
SIZES = ("small", "large")
MATERIALS = ("rubber", "metal")
ATTRIBUTES = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "material": MATERIALS}
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

HEIGHT = WIDTH = 112  # pixels
RADII = {"small": (8, 9), "large": (14, 15)}  # pixels
_MARGIN = max(RADII["large"]) + 1
# Centres of any two objects are at least this far apart, whatever their sizes. Nothing overlaps,
# and along its larger axis every pair is 21 pixels apart: each relation is plain to see.
DISTANCE = 2 * max(RADII["large"])

# The splits share no scene because each takes only scenes whose hash falls into its own bucket.
# No list of scenes seen is needed: an image stays independent of all others.
BUCKETS = {"train": 0, "validation": 1, "test": 2, "corpus": 3}


def generator(seed: int, image_id: str, purpose: str) -> np.random.Generator:
    """The random numbers of one image for one purpose; never shared, never dependent on order."""
    names = [zlib.crc32(image_id.encode()), zlib.crc32(purpose.encode())]
    return np.random.default_rng([seed, *names])


@dataclasses.dataclass(frozen=True)
class Object:
    """One object; x, y (centre) and radius in pixels, y grows downwards."""

    shape: str
    colour: str
    size: str
    material: str
    x: int
    y: int
    radius: int


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene graph: the objects from left to right, and what follows from their positions."""

    image_id: str
    height: int
    width: int
    objects: tuple[Object, ...]

    @property
    def split(self) -> str:
        """The split that the image belongs to."""
        return self.image_id.rpartition("-")[0]

    def relation(self, i: int, j: int) -> str:
        """What object i is to object j, along the axis on which they are further apart."""
        dx = self.objects[i].x - self.objects[j].x
        dy = self.objects[i].y - self.objects[j].y
        if abs(dx) > abs(dy):
            return "left of" if dx < 0 else "right of"
        return "above" if dy < 0 else "below"

    def relations(self) -> list[tuple[int, str, int]]:
        """All (i, relation, j) with i < j; the other direction is the opposite."""
        n = len(self.objects)
        return [(i, self.relation(i, j), j) for i in range(n) for j in range(i + 1, n)]

    def key(self) -> str:
        """What makes two scenes the same: attributes from left to right, and relations.

        Exact pixels are left out on purpose: a scene shifted by a pixel is still the same scene
        and must not be in two splits.
        """
        objects = [(o.shape, o.colour, o.size, o.material) for o in self.objects]
        return json.dumps([objects, self.relations()])

    def to_json(self) -> str:
        graph = dataclasses.asdict(self)
        # Derived, for those who read the table without this code.
        graph["relations"] = self.relations()
        return json.dumps(graph)

    @classmethod
    def from_json(cls, text: str) -> "Scene":
        graph = json.loads(text)
        objects = tuple(Object(**o) for o in graph["objects"])
        return cls(graph["image_id"], graph["height"], graph["width"], objects)


def bucket(scene: Scene) -> int:
    """The bucket of `BUCKETS` that a scene belongs to."""
    digest = hashlib.blake2b(scene.key().encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % len(BUCKETS)


def _positions(rng: np.random.Generator, n: int) -> list[tuple[int, int]]:
    """n centres, each DISTANCE from the others, from left to right."""
    while True:
        found: list[tuple[int, int]] = []
        candidates = rng.integers(
            (_MARGIN, _MARGIN), (WIDTH - _MARGIN, HEIGHT - _MARGIN), size=(16 * n, 2)
        )
        for x, y in candidates.tolist():
            if all((x - a) ** 2 + (y - b) ** 2 >= DISTANCE**2 for a, b in found):
                found.append((x, y))
                if len(found) == n:
                    return sorted(found)


def draw(seed: int, split: str, index: int, min_objects: int, max_objects: int) -> Scene:
    """Draws scene number `index` of a split: a pure function of its arguments.

    Args:
      seed: of the data set.
      split: a key of `BUCKETS`.
      index: 0, 1, 2, ...
      min_objects: least number of objects, all numbers being equally likely.
      max_objects: greatest number of objects.
    """
    image_id = f"{split}-{index:06d}"
    rng = generator(seed, image_id, "scene")
    while True:
        n = int(rng.integers(min_objects, max_objects + 1))
        codes = rng.integers(
            0, [len(COLOURS), len(SHAPES), len(SIZES), len(MATERIALS), 2], size=(n, 5)
        ).tolist()
        objects = []
        for (x, y), (colour, shape, size, material, radius) in zip(
            _positions(rng, n), codes, strict=True
        ):
            objects.append(
                Object(
                    shape=SHAPES[shape],
                    colour=COLOURS[colour],
                    size=SIZES[size],
                    material=MATERIALS[material],
                    x=x,
                    y=y,
                    radius=RADII[SIZES[size]][radius],
                )
            )
        scene = Scene(image_id, HEIGHT, WIDTH, tuple(objects))
        if bucket(scene) == BUCKETS[split]:
            return scene
