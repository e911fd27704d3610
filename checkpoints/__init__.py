"""Files ↔ parameters: reading, writing, fitting, sharing and converting checkpoints."""
