"""Trained parameters put to use: metrics, predictions, submissions, reports."""
