"""CSV files: quoted cells, and errors that name the line on which a row starts."""

import pytest

from core.errors import DataError
from input_pipeline.datasets.reading import csv_file


def read(folder, text):
    path = folder / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = list(csv_file.rows(path, ("id", "text")))
    return [(where.rpartition(":")[2], row) for where, row in found]


def test_quoted_cells_and_where_rows_start(tmp_path):
    text = 'more, text ,id\n1,"a dog,\nrunning",7\n\n2,"say ""hi""",8\r\n'
    assert read(tmp_path, text) == [
        ("2", {"id": "7", "text": "a dog,\nrunning"}),
        ("5", {"id": "8", "text": 'say "hi"'}),
    ]
    assert read(tmp_path, "\ufeffid,text\n1,a\n") == [("2", {"id": "1", "text": "a"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"lacks a column.*x.csv:1.*id,text.*an empty file"),
        ("id,caption\n1,a\n", r"lacks a column.*x.csv:1.*found: id,caption"),
        ("id,text,id\n1,a,2\n", r"lacks a column"),
        ("id,text\n1,a\n\n2,a, b\n", r"another number of columns.*x.csv:4.*2: id,text.*3: "),
        ("id,text\n1\n", r"another number of columns.*x.csv:2"),
        ('id,text\n1,a\n2,"open\n3,b\n', r"malformed CSV.*x.csv:3.*end of data"),
        (b"id,text\n1,caf\xe9\n", r"not UTF-8.*x.csv:2"),
    ],
)
def test_bad_files_name_the_line(tmp_path, text, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        read(tmp_path, text)
