"""Pictures that a model sees itself: their files in a store, by image id.

  python -m input_pipeline.pictures build FOLDER ARCHIVE.zip --out=STORE    # what they are in
  python -m input_pipeline.pictures build --tfds=coco/2014:train --out=STORE
  python -m input_pipeline.pictures verify STORE

A picture's id is its path below the folder or in the archive, without suffix; it must be the id of
its regions in the region store. --ids=number takes the last number of the name instead (COCO). A
data set of TFDS has ids of its own: --tfds_id names the feature, else each picture has a number.

Every picture is decoded once when the store is built: what is damaged, cut short, no picture or of
more than 8 bits a channel is listed and ends the work, or is left out with --on_bad=skip. The
files themselves are kept as they are, with a hash each.
"""
