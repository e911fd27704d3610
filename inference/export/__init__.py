"""A task of a model as a folder that runs without this project.

  python -m inference RUN export --out=FOLDER                  # the first thing that the model can
  python -m inference RUN export --verb=align --out=FOLDER --batch_sizes=1,32 --platforms=cuda

The folder holds the program (StableHLO, serialised by jax.export) for each platform and size of
batch, the weights, what its inputs are, the vocabulary, and a loader that needs jax, numpy and
safetensors. Its numbers are those of the model, to the last bit on the same machine.
"""
