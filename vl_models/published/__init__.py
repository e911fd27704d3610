"""Names of the published checkpoints, and the maps from and to them: arrays only, no files."""
