"""Trains a detector of regions with the training loop of all runs."""
