"""Runs an exported program: needs jax, numpy and safetensors, and nothing of the project.

python load.py   # runs the example that the folder holds, and compares
"""

import json
import pathlib

import jax
import numpy as np
from jax import export
from safetensors.numpy import load_file


class Program:
    """The program of a folder; see its config.json for inputs and outputs."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        self.weights = jax.device_put(load_file(self.folder / "model.safetensors"))
        platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
        self.runs = {
            size: jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
            for size in self.config["batch_sizes"]
            for path in [self.folder / f"{platform}-{size}.jaxexport"]
        }

    def __call__(self, inputs):
        """{output: [B, …]} of {input: [B, …]}; rows are padded to the next size that there is."""
        specs, largest = self.config["inputs"], max(self.runs)
        inputs = {name: np.asarray(inputs[name], jax.numpy.dtype(specs[name]["dtype"]))
                  for name in specs}  # fmt: skip
        count, parts = len(next(iter(inputs.values()))), []
        for start in range(0, count, largest):
            part = {name: array[start : start + largest] for name, array in inputs.items()}
            real = min(largest, count - start)
            size = min(size for size in self.runs if size >= real)
            part = {name: np.concatenate([array, np.repeat(array[-1:], size - real, 0)])
                    for name, array in part.items()}  # fmt: skip
            out = jax.device_get(self.runs[size](self.weights, part))
            parts.append({name: array[:real] for name, array in out.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


if __name__ == "__main__":
    program = Program(pathlib.Path(__file__).parent)
    example = load_file(program.folder / "example.safetensors")
    found = program({name: example[f"inputs/{name}"] for name in program.config["inputs"]})
    for name, array in found.items():
        difference = np.abs(array.astype(np.float64) - example[f"outputs/{name}"]).max()
        print(f"{name} {array.shape}: largest difference {difference:.3g}")
