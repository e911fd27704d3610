"""What a run is shown as: one page with pictures, boxes and answers."""
