"""What importers share: readers of the file formats that features come in."""
