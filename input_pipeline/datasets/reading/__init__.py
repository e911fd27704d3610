"""What data sets share: official files, records to rows, answer lists, TFDS builders."""
