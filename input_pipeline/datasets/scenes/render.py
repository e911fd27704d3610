"""Pictures of scenes: plain numpy, one sprite for each shape, material and radius."""

import functools

import numpy as np

from input_pipeline.datasets.scenes import graph

PALETTE = {
    "red": (214, 42, 40),
    "green": (38, 160, 62),
    "blue": (40, 84, 214),
    "yellow": (240, 204, 30),
    "purple": (146, 54, 178),
    "gray": (116, 116, 118),
}
# Mean level of the background; each picture's own differs by at most BACKGROUND_RANGE.
BACKGROUND = 222
BACKGROUND_RANGE = 12
_OVERSAMPLE = 6


def _inside(shape: str, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mask of a shape in the square [-1, 1]^2 (v down) and its matte shading, 1 = plain."""
    rho = np.hypot(u, v)
    if shape == "ball":
        return rho <= 1, 1.12 - 0.35 * np.hypot(u + 0.35, v + 0.35)
    if shape == "ring":
        return (rho <= 1) & (rho >= 0.52), np.full_like(u, 1.0)
    if shape == "star":
        angle = np.mod(np.arctan2(u, -v), 2 * np.pi / 5) - np.pi / 5
        # The edge between an outer corner (radius 1) and an inner one (radius 0.42).
        inner, half = 0.42, np.pi / 5
        across = half - np.abs(angle)  # 0 at an outer corner, `half` at an inner one
        edge = (
            inner
            * np.sin(half)
            / (np.sin(across) * (1 - inner * np.cos(half)) + np.cos(across) * inner * np.sin(half))
        )
        return rho <= edge, np.full_like(u, 1.0)
    if shape == "cone":
        base = 0.68 + 0.27 * np.sqrt(np.clip(1 - (u / 0.88) ** 2, 0, None))
        inside = (np.abs(u) <= 0.88 * (v + 0.95) / 1.63) & (v <= base)
        return inside, 1.05 - 0.28 * u
    if shape == "cube":
        depth = 0.46
        front = (u >= -0.92) & (u <= 0.46) & (v >= -0.46) & (v <= 0.92)
        top = (v < -0.46) & (v >= -0.46 - depth) & (u + v >= -1.38) & (u + v <= 0.0)
        side = (u > 0.46) & (u <= 0.46 + depth) & (u + v >= 0.0) & (u + v <= 1.38)
        return front | top | side, np.where(top, 1.22, np.where(side, 0.68, 1.0))
    raise ValueError(f"unknown shape {shape!r}, expected one of {graph.SHAPES}")


@functools.cache
def sprite(shape: str, material: str, radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One object without its colour.

    Returns:
      (cover, shade, shine), each float32 [2 * radius, 2 * radius]: share of the pixel covered,
      factor of the colour, and how much white lies over it.
    """
    n = 2 * radius * _OVERSAMPLE
    axis = (np.arange(n, dtype=np.float64) + 0.5) / n * 2 - 1
    u, v = np.meshgrid(axis, axis)
    inside, shade = _inside(shape, u, v)
    if material == "metal":
        # Mirror-like: dark towards the lower right, two glaring diagonal bands.
        along = (u + v) / 2
        shade = shade * (0.92 - 0.30 * along)
        shine = 0.85 * np.exp(-(((along + 0.28) / 0.13) ** 2))
        shine += 0.45 * np.exp(-(((along - 0.30) / 0.07) ** 2))
    else:
        shine = np.zeros_like(u)

    def small(x):
        return x.reshape(2 * radius, _OVERSAMPLE, 2 * radius, _OVERSAMPLE).mean((1, 3))

    cover = small(inside.astype(np.float64))
    weight = np.maximum(cover, 1e-9)
    return tuple(
        x.astype(np.float32)
        for x in (cover, small(shade * inside) / weight, small(shine * inside) / weight)
    )


@functools.cache
def extent(shape: str, radius: int) -> tuple[int, int, int, int]:
    """The tight box of a shape around its centre: (x1, y1, x2, y2) in pixels."""
    cover = sprite(shape, "rubber", radius)[0] > 0.25
    xs, ys = np.flatnonzero(cover.any(0)), np.flatnonzero(cover.any(1))
    return (
        int(xs[0]) - radius,
        int(ys[0]) - radius,
        int(xs[-1]) + 1 - radius,
        int(ys[-1]) + 1 - radius,
    )


def true_boxes(scene: graph.Scene) -> np.ndarray:
    """The tight box of every object: float32 [n, 4], xyxy in pixels."""
    boxes = []
    for o in scene.objects:
        x1, y1, x2, y2 = extent(o.shape, o.radius)
        boxes.append((o.x + x1, o.y + y1, o.x + x2, o.y + y2))
    return np.array(boxes, np.float32)


def render(scene: graph.Scene, rng: np.random.Generator) -> np.ndarray:
    """Draws a scene: uint8 [height, width, 3]. Light, tint and colours vary a little with rng."""
    level, tilt_x, tilt_y = rng.uniform(-1, 1, 3)
    tint = rng.uniform(-3, 3, 3)
    x = np.linspace(-0.5, 0.5, scene.width)
    y = np.linspace(-0.5, 0.5, scene.height)[:, None]
    light = BACKGROUND + BACKGROUND_RANGE * (0.5 * level + 0.5 * (tilt_x * x + tilt_y * y))
    picture = (np.rint(light)[:, :, None] + tint).astype(np.float32)
    strength = rng.uniform(0.93, 1.07, (len(scene.objects), 3)).astype(np.float32)
    for o, factor in zip(scene.objects, strength, strict=True):
        cover, shade, shine = (a[:, :, None] for a in sprite(o.shape, o.material, o.radius))
        rows = slice(o.y - o.radius, o.y + o.radius)
        columns = slice(o.x - o.radius, o.x + o.radius)
        paint = np.array(PALETTE[o.colour], np.float32) * factor * shade
        paint = np.minimum(paint, 255) * (1 - shine) + 255 * shine
        picture[rows, columns] += cover * (paint - picture[rows, columns])
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
