"""Regions that `doctor inspect` looks at in tests: sound ones, as an .npz file or a store."""

import numpy as np

from input_pipeline.doctor.examine import examine
from input_pipeline.doctor.sources import open_source
from input_pipeline.regions import FeatureSpec, RegionWriter

IMAGES, REGIONS, F, C = 20, 12, 16, 9


def made(seed=0):
    """Arrays of an .npz file of sound features: 12 regions an image, background in column 0."""
    rng = np.random.default_rng(seed)
    n = IMAGES * REGIONS
    hw = np.stack([rng.integers(150, 250, IMAGES), rng.integers(300, 400, IMAGES)], 1)
    corners = np.sort(rng.random((n, 2, 2)), axis=1) * hw.repeat(REGIONS, 0)[:, None, ::-1]
    probs = rng.dirichlet(np.full(C, 0.05), n)
    probs[:, 0] += 0.4
    return {
        "paths": np.asarray([f"val/{i:03d}.jpg" for i in range(IMAGES)]),
        "hw": hw,
        "offset": np.arange(IMAGES + 1) * REGIONS,
        "boxes": corners.reshape(n, 4).astype(np.float32),
        "feat": np.maximum(rng.standard_normal((n + IMAGES, F)), 0).astype(np.float32),
        "cls_prob": (probs / probs.sum(1, keepdims=True)).astype(np.float32),
    }


def look(tmp_path, arrays, **options):
    np.savez(tmp_path / "a.npz", **arrays)
    return examine(
        open_source([str(tmp_path / "a.npz")], "npz", {"background_class": 0}), **options
    )


def names(result, *levels):
    return {f.name for f in result.findings if f.level in (levels or ("broken", "suspicious"))}


def normalised(a):
    a["boxes"] /= np.tile(a["hw"].repeat(REGIONS, 0)[:, ::-1], 2)


def store_of(tmp_path, arrays, **spec):
    """A store of the arrays of `made`."""
    spec = FeatureSpec("toy", F, C, 0, **spec)
    with RegionWriter(tmp_path / "s", spec) as writer:
        for i, name in enumerate(arrays["paths"].tolist()):
            rows = slice(i * REGIONS, (i + 1) * REGIONS)
            writer.add(
                name,
                boxes=arrays["boxes"][rows],
                features=arrays["feat"][i * (REGIONS + 1) + 1 : (i + 1) * (REGIONS + 1)],
                height=int(arrays["hw"][i, 0]),
                width=int(arrays["hw"][i, 1]),
                class_probs=arrays["cls_prob"][rows],
            )
    return str(tmp_path / "s")
