"""Streams of examples: draw → ids → fetch → host batch → prefetch."""
