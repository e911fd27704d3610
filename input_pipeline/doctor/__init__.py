"""What region features are, and whether they are sound.

  python -m input_pipeline.doctor inspect PATH...     # a store, or raw files of any known layout
  python -m input_pipeline.doctor compare A B         # are these the same features?
  python -m input_pipeline.doctor verify STORE        # re-reads and checks every record
  python -m input_pipeline.doctor coverage STORE captions.jsonl      # or vqa:train --manual_dir DIR

`inspect` looks at a sample (`--images N`, `--images all`) and infers from the
numbers: box convention, background column, order of the regions. `--pictures DIR --sheet OUT.png`
draws boxes on pictures, `--checkpoint RUN` asks whether a trained model may read these features,
`--json OUT` writes everything for machines.

The exit status is 0 if all is sound (`compare`: the same features, `coverage`: none missing), 1 if
anything is suspicious or broken.
"""
