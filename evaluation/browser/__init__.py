"""All predictions of a split as one page: filtered, searched, sorted, and two runs compared."""
