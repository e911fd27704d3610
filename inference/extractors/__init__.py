"""Extractors: one file = one kind of model that makes region features of pictures.

  python -m input_pipeline.importers pictures FOLDER --extractor=visual_genome --out=STORE

Each file has a class `Extractor` as `input_pipeline.regions.extract` describes it, and says what it
needs: all but `visual_genome` are thin adapters to libraries that are installed separately.
"""
