"""Devices and processes: meshes, clusters, signals, tracing, the compile cache."""
