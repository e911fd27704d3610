"""The bookkeeping of a run: its folder, logs, metrics, speed, checkpoints over time."""
