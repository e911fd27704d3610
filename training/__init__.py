"""The training loop and everything around the step."""
