"""Imports and text tables on many machines, as Apache Beam pipelines.

  python -m input_pipeline.beam regions LAYOUT FILES... --out=STORE [options of the import]
      [--runner=DataflowRunner ... and other options of Beam]
  python -m input_pipeline.beam texts DATASET:SPLIT --config.data.FIELD=VALUE ... [options of Beam]

The machine that starts a pipeline plans it and joins its parts; workers do what takes time: reading
and checking records, running an extractor over pictures, tokenising. The files are those that
`input_pipeline.importers`, or the first run of main.py, makes on one machine, bit for bit. The
same command resumes a pipeline that was stopped. docs/scale.md has runners, sizes and costs.

Workers and this machine need the same paths: of a shared file system, or gs://.
"""
