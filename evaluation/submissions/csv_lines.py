"""Lines of comma-separated files, as the data sets' scripts read them: nothing is quoted."""


def csv_line(*cells: object) -> str:
    """Cells with commas between them, and the end of the line."""
    return ",".join(map(str, cells)) + "\n"
