"""What a value is that no layout can read: other people's databases are not damaged."""

from core.errors import DataError

_STARTS = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"RIFF": "a WebP picture or a sound",
    b"GIF8": "a GIF picture",
    b"\x93NUMPY": "a .npy file: an array alone, without boxes and size",
    b"PK\x03\x04": "a zip: of numpy.savez or torch.save",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x04\x22\x4d\x18": "LZ4",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow message (tensorpack's serializer since 0.9)",
    b"\x89HDF": "an HDF5 file",
}
_SHOWN = 40


def kind_of(value: bytes) -> str:
    """What a value looks like; empty where that is not known."""
    found = next((kind for start, kind in _STARTS.items() if value.startswith(start)), "")
    if found or not value:
        return found
    start = value[:200]
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # the last character may be cut
            return ""
        text = start[: error.start].decode()
    if text.isspace() or not text.replace("\n", "").replace("\t", "").isprintable():
        return ""
    if text[0] in "{[":
        return f"JSON: {text[:_SHOWN]!r}"
    return "" if "\n" in text else f"text: {text[:_SHOWN]!r}"


def explained(error: DataError, value: bytes, where: str, expected: str) -> DataError:
    """The error to raise for a value that cannot be read: of another kind, else as it was.

    Args:
      error: of the reader.
      value: what it read.
      where: for messages.
      expected: what the layout reads.
    """
    kind = kind_of(value)
    if not kind or "refused" in str(error).partition("\n")[0]:
        return error
    return DataError(
        "a database of something else",
        where=where,
        expected=expected,
        found=kind,
        fix="name the layout that it has (python -m input_pipeline.importers --help), or write one "
        "of them: a folder of numpy files is the simplest (layout numpy_folder)",
    )
