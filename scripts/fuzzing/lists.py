"""Files that settings name: lists of answers, images and sizes, corpora, predictions.

{name: (write(folder), read(folder) → values)}
"""

import json
import pathlib
import pickle

import numpy as np

ANSWERS = ("yes", "no", "a dog", "2")


def _texts(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


def _pickled(name: str, value):
    return lambda folder: (folder / name).write_bytes(pickle.dumps(value, 2))


def _corpus(folder: pathlib.Path):
    from input_pipeline.datasets.reading import text_corpus

    paths = [str(folder / "x.txt")]
    return [text_corpus.corpus_fingerprint(paths), *text_corpus.rows(paths)]


def _answers(name: str):
    def read(folder: pathlib.Path):
        from input_pipeline.datasets.reading.answers import AnswerVocabulary

        found = AnswerVocabulary.load(folder / name)
        return [*found.labels, *map(found.lookup, ANSWERS)]

    return read


def _id_map(name: str):
    def read(folder: pathlib.Path):
        from input_pipeline.importers.formats import hdf5_file

        return hdf5_file.read_id_map(str(folder / name), 4, "x.h5")

    return read


def _sizes(name: str):
    def read(folder: pathlib.Path):
        from input_pipeline.importers.formats import sizes

        found = sizes.read_sizes(str(folder / name))
        return [found.find(str(i)) for i in range(1, 4)]

    return read


def _coco_names(folder: pathlib.Path):
    from input_pipeline.streams import leaks

    return sorted(leaks.coco_names(str(folder / "image_data.json")).items())


def _held_out(name: str):
    def read(folder: pathlib.Path):
        from input_pipeline.streams import held_out

        return held_out.images_in(str(folder / name))

    return read


def _array(name: str, items):
    return lambda folder: np.save(folder / name, items, allow_pickle=True)


def _predictions(folder: pathlib.Path):
    from evaluation import prediction_file

    return list(prediction_file.read(folder / "test.jsonl"))


def _csv(folder: pathlib.Path):
    from input_pipeline.datasets.reading import csv_file

    return list(csv_file.rows(folder / "x.csv", ("image", "text")))


_ROWS = [dict(id=i, file_name=f"a/{i:012}.jpg", height=40, width=60) for i in range(1, 4)]
_MAP = {str(i): i for i in range(4)}

LISTS = {
    "corpus": (_texts("x.txt", "A dog runs.\nTwo cats\r\n\nsit.\n"), _corpus),
    "answers txt": (_texts("x.txt", "\n".join(ANSWERS)), _answers("x.txt")),
    "answers json": (
        _texts("x.json", json.dumps({answer: i for i, answer in enumerate(ANSWERS)})),
        _answers("x.json"),
    ),
    "answers pkl": (_pickled("x.pkl", list(ANSWERS)), _answers("x.pkl")),
    "id map json": (_texts("x.json", json.dumps(_MAP)), _id_map("x.json")),
    "id map pkl": (_pickled("x.pkl", _MAP), _id_map("x.pkl")),
    "sizes json": (_texts("x.json", json.dumps(dict(images=_ROWS))), _sizes("x.json")),
    "sizes jsonl": (_texts("x.jsonl", "\n".join(map(json.dumps, _ROWS))), _sizes("x.jsonl")),
    "sizes tsv": (
        _texts("x.tsv", '1\t40\t60\n2\t[{"height": 40, "width": 60}]\n3\t4\t6\n'),
        _sizes("x.tsv"),
    ),
    "image_data": (
        _texts("image_data.json", json.dumps([dict(image_id=i, coco_id=i) for i in range(3)])),
        _coco_names,
    ),
    "held out txt": (
        _texts("x.txt", "coco:1\nval2014/COCO_val2014_000000000002.jpg\n"),
        _held_out("x.txt"),
    ),
    "held out npy": (_array("x.npy", np.arange(5)), _held_out("x.npy")),
    "held out objects": (_array("x.npy", np.array(["1", 2], object)), _held_out("x.npy")),
    "predictions": (
        _texts("test.jsonl", "".join(json.dumps(dict(id=f"t{i}", a=1.5)) + "\n" for i in range(3))),
        _predictions,
    ),
    "csv": (_texts("x.csv", 'image,text\n1,"a ""red"", dog"\n2,two\n'), _csv),
}
