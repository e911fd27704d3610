"""What every room stands on: errors, paths, files, progress. No JAX, no TensorFlow."""
