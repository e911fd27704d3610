"""Configs: pure data (ml_collections), locked, every field commented."""
