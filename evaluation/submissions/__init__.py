"""Predictions in the official formats of the data sets, ready for their servers and scripts."""
