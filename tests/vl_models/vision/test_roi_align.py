"""RoIAlign against the original and against its definition."""

import golden_files
import jax
import jax.numpy as jnp
import numpy as np

from vl_models.vision.roi_align import roi_align


def test_golden_vectors():
    golden = golden_files.Golden(golden_files.files("roi_align.npz")[0])
    rois = golden["in/rois"]
    features = golden["in/features"][rois[:, 0].astype(int)].transpose(0, 2, 3, 1)
    found = roi_align(
        jnp.asarray(features),
        jnp.asarray(rois[:, None, 1:]),
        scale=golden.meta["spatial_scale"],
        size=golden.meta["size"],
        samples=golden.meta["sampling_ratio"],
    )
    golden.check_output("sampling_1", found[:, 0].transpose(0, 3, 1, 2))


def bilinear(image, y, x):
    height, width = image.shape[:2]
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    return (
        (1 - dy) * (1 - dx) * image[top, left] + (1 - dy) * dx * image[top, right]
        + dy * (1 - dx) * image[below, left] + dy * dx * image[below, right]
    )  # fmt: skip


def sampled(image, box, scale, size):
    """The adaptive one by its definition, sample by sample."""
    x1, y1, x2, y2 = box * scale
    height, width = max(y2 - y1, 1), max(x2 - x1, 1)
    rows, columns = (int(np.ceil(side / size)) for side in (height, width))
    out = np.zeros((size, size, image.shape[-1]))
    for p, q in np.ndindex(size, size):
        for i, j in np.ndindex(rows, columns):
            y = y1 + (p + (i + 0.5) / rows) * height / size
            x = x1 + (q + (j + 0.5) / columns) * width / size
            out[p, q] += bilinear(image, y, x) / (rows * columns)
    return out


def test_adaptive_samples_and_their_gradient():
    image = np.random.RandomState(0).standard_normal((9, 12, 3)).astype(np.float32)
    boxes = np.float32(
        [[0, 0, 191, 143], [-40, 5, 300, 90], [30, 20, 33, 140], [180, 130, 260, 200], [9, 9, 2, 2]]
    )

    def cut(image):
        return roi_align(image[None], jnp.asarray(boxes)[None], scale=1 / 16, size=4, samples=0)[0]

    found, back = jax.vjp(jax.jit(cut), jnp.asarray(image))
    expected = [sampled(image, box, 1 / 16, 4) for box in boxes]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Linear in the features: the gradient of Σ out·out' in direction `image` is twice the sum.
    (grad,) = back(2 * found)
    np.testing.assert_allclose(np.sum(grad * image), 2 * np.sum(np.square(expected)), rtol=1e-5)
