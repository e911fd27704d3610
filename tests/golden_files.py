"""Golden vectors: what the published PyTorch systems output on weights given by a rule."""

import json
import os
import pathlib
import zlib

import numpy as np

from vl_models import loading

FOLDER = pathlib.Path(os.environ.get("VL_GOLDEN_DIR") or pathlib.Path(__file__).parent / "golden")


def files(pattern: str) -> list[pathlib.Path]:
    """Golden files of a pattern; none at all is an error, not an empty test run."""
    found = sorted(FOLDER.glob(pattern))
    if not found:
        raise FileNotFoundError(f"no {pattern} in {FOLDER}; VL_GOLDEN_DIR names the folder")
    return found


class Golden:
    """One file: `meta`, inputs, outputs, gradients, and the state dict its rule makes."""

    def __init__(self, path):
        with np.load(path) as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}
        self.meta = json.loads(str(self.arrays["meta"]))

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def state_dict(self, ties: dict[str, str]) -> dict[str, np.ndarray]:
        """The published model's weights; `ties` maps an alias to the name it repeats."""
        out = {}
        convolutional = self.meta["kind"].startswith(("vlbert_e2e", "faster_rcnn"))
        for name, shape in self.meta["state_dict"].items():
            seed = zlib.crc32(ties.get(name, name).encode()) & 0xFFFFFFFF
            values = np.random.RandomState(seed).standard_normal(shape)
            if convolutional and name.endswith("running_var"):
                values = 1 + 0.5 * np.abs(values)
            elif convolutional and len(shape) == 4:
                values = values / np.sqrt(np.prod(shape[1:]))
            else:
                values = np.float32(values) * np.float32(self.meta.get("weight_scale", 0.12))
            if name.lower().endswith("weight") and len(shape) == 1:
                values = values + np.float32(1.0)
            out[name] = values.astype(np.float32)
        return out

    def check_output(self, name: str, found, where=None) -> None:
        """Compares with `out/<name>`, at the positions `where` is True."""
        expected = self[f"out/{name}"]
        if where is not None:
            expected, found = expected[where], np.asarray(found)[where]
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-4, err_msg=name)

    def check_loss(self, name: str, found) -> None:
        """Compares a scalar with `out/<name>`."""
        np.testing.assert_allclose(found, self[f"out/{name}"], rtol=1e-5, atol=1e-6, err_msg=name)

    def check_gradients(self, grads: dict[str, np.ndarray], within: float = 1e-3) -> None:
        """Compares norm and probe product of every gradient; `grads` by published name."""
        expected = {k.removeprefix("grad/"): v for k, v in self.arrays.items() if k[:5] == "grad/"}
        assert expected, "the golden file has no gradients"
        for name, wanted in expected.items():
            tolerance = within * wanted[0] + 1e-6
            got = pair(name, grads[name])
            np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance, err_msg=name)
        zero = [n for n in grads if n in self.meta["state_dict"] and n not in expected]
        for name in zero:
            if not np.allclose(grads[name], 0, atol=1e-6):
                # a tied alias repeats the gradient of the name it is tied to
                assert any(np.array_equal(grads[name], grads[other]) for other in expected), name


def pair(name: str, gradient) -> np.ndarray:
    """[norm, product with the random probe of the name], as the files keep a gradient."""
    gradient = np.asarray(gradient, np.float64)
    rs = np.random.RandomState(zlib.crc32(f"probe:{name}".encode()) & 0xFFFFFFFF)
    return np.array(
        [np.linalg.norm(gradient), np.sum(gradient * rs.standard_normal(gradient.shape))]
    )


def fitted(shapes, flat: dict) -> dict:
    """{path: array} as nested parameters; held to be every parameter of `shapes`, and no other."""
    expected = {path: x.shape for path, x in loading.flatten(shapes).items()}
    assert {path: np.shape(x) for path, x in flat.items()} == expected
    return loading.unflatten(flat)
