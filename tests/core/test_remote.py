"""Files in a bucket: copies, whole writing, and every reader and writer of data on them."""

import json
import pathlib

import numpy as np
import pytest
from datasets.official_data import config as official_config
from datasets.official_data import write_coco
from made_data import ASSEMBLE, SPEC, config, image, write_all, write_images, write_store

from core import remote
from core.errors import DataError
from core.progress import atomic_file, atomic_folder
from input_pipeline import datasets
from input_pipeline.datasets import coco_captions
from input_pipeline.datasets.reading import builder, pictures
from input_pipeline.datasets.reading.answers import AnswerVocabulary
from input_pipeline.doctor.__main__ import main as doctor
from input_pipeline.importers.__main__ import main as imports
from input_pipeline.regions import RegionStore, convert_store
from input_pipeline.streams import hard_negatives, pipeline
from input_pipeline.texts.tables import TextTable


def put(bucket, name, text):
    bucket.server.put(bucket.name, name, text.encode())


def test_paths_of_this_machine_are_plain_paths(tmp_path):
    assert type(remote.path(str(tmp_path))) is type(tmp_path)
    assert remote.local(tmp_path / "x") == tmp_path / "x"
    assert remote.mirror(str(tmp_path)) == tmp_path
    assert remote.absolute("x") == pathlib.Path("x").absolute()
    assert str(remote.absolute("gs://bucket/x/")) == "gs://bucket/x"
    with pytest.raises(DataError, match=r"(?s)unknown kind.*gs://.*found: s3://"):
        remote.path("s3://bucket/x")


def test_a_file_is_copied_once_until_it_is_another(bucket, tmp_path):
    put(bucket, "a/text.txt", "one")
    url = f"{bucket.url}/a/text.txt"
    copy = remote.local(url)
    assert copy.read_text() == "one"
    assert copy.is_relative_to(tmp_path / "cache")
    assert remote.local(url) == copy
    assert bucket.asked("READ", "a/text.txt") == 1
    put(bucket, "a/text.txt", "two")
    assert remote.local(url).read_text() == "two"
    with pytest.raises(FileNotFoundError):
        remote.local(f"{bucket.url}/a/other.txt")


def test_a_folder_is_copied_as_far_as_wanted_and_follows_changes(bucket):
    for name in ("a.json", "sub/b.json", "c.jpg"):
        put(bucket, f"data/{name}", name)
    put(bucket, "data-2/d.json", "of another folder")

    def mirror():
        folder = remote.mirror(f"{bucket.url}/data", lambda name: name.endswith(".json"))
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_text() for path in files}

    assert mirror() == {"a.json": "a.json", "sub/b.json": "sub/b.json"}
    del bucket.objects["data/a.json"]
    put(bucket, "data/sub/b.json", "new")
    bucket.server.forget()
    assert mirror() == {"sub/b.json": "new"}
    assert mirror() == {"sub/b.json": "new"}
    assert bucket.asked("READ", "data/sub/b.json") == 1


def test_files_and_folders_are_written_whole_or_not_at_all(bucket):
    with atomic_file(f"{bucket.url}/made/one.txt") as path:
        path.write_text("words")
        assert bucket.names() == []
    assert bucket.objects["made/one.txt"][0] == b"words"
    with pytest.raises(FileNotFoundError), atomic_file(f"{bucket.url}/made/two.txt") as path:
        path.with_name("missing").read_text()  # an error in the middle
    with (
        pytest.raises(ValueError, match=r"no done\.json"),
        atomic_folder(f"{bucket.url}/folder", last="done.json"),
    ):
        pass
    assert bucket.names() == ["made/one.txt"]
    with atomic_folder(f"{bucket.url}/folder", last="a.json") as path:
        for name in ("a.json", "b.bin"):
            (path / name).write_text(name)
    generations = {name: generation for name, (_, generation) in bucket.objects.items()}
    assert generations["folder/b.bin"] < generations["folder/a.json"]  # the last one is the last
    with (
        pytest.raises(DataError, match="exists already"),
        atomic_folder(f"{bucket.url}/folder", last="a.json"),
    ):
        pass


def test_a_bucket_that_cannot_be_used_is_told_at_once(bucket):
    remote.require(bucket.url, "--workdir", write=True)
    assert bucket.names() == []
    with pytest.raises(DataError, match=r"(?s)cannot be used.*--workdir=gs://not-there/x"):
        remote.require("gs://not-there/x", "--workdir")
    bucket.server.denied.add(bucket.name)
    with pytest.raises(DataError, match=r"(?s)cannot be used.*may be written to.*no access"):
        remote.require(f"{bucket.url}/run", "--workdir", write=True)
    with (
        pytest.raises(DataError, match=r"(?s)cannot be written.*no access"),
        atomic_file(f"{bucket.url}/x") as path,
    ):
        path.write_text("x")


def batches(settings):
    streams = pipeline.build_streams(settings, ASSEMBLE, image_margin=0)
    return streams, [{n: s.batch(draw) for n, s in streams.items()} for draw in range(4)]


def test_own_data_in_a_bucket_gives_the_same_batches(tmp_path, bucket):
    write_all(tmp_path)
    (tmp_path / "corpus.txt").write_text("a red dog\nthe big house\n" * 4)
    bucket.copy(tmp_path / "store", "store")
    for name in ("captions.jsonl", "corpus.txt"):
        put(bucket, name, (tmp_path / name).read_text())
    here, expected = batches(config(tmp_path, text_batch=2, corpus=str(tmp_path / "corpus.txt")))
    settings = config(
        tmp_path,
        text_batch=2,
        annotations=f"{bucket.url}/captions.jsonl",
        regions=f"{bucket.url}/store",
        corpus=f"{bucket.url}/corpus.txt",
        dir=f"{bucket.url}/prepared",
    )
    there, found = batches(settings)
    for name, stream in here.items():
        assert there[name].fingerprint == stream.fingerprint  # a run may go on with either
    for a, b in zip(expected, found, strict=True):
        for name in a:
            assert a[name].keys() == b[name].keys()
            for key, array in a[name].items():
                np.testing.assert_array_equal(b[name][key], array, err_msg=key)
    made = bucket.names("prepared/")
    assert any(name.startswith("prepared/vocab-") for name in made)
    assert len([name for name in made if name.endswith("/meta.json")]) == 2

    bucket.server.forget()
    batches(settings)  # what was made before is taken
    assert not [name for method, name in bucket.server.asked if method == "PUT"]
    # A prepared folder that was copied there does as well: this one, to another place.
    settings.data.dir = f"{bucket.url}/copied"
    bucket.copy(tmp_path / "cache", "copied")
    bucket.server.forget()
    assert [s.fingerprint for s in batches(settings)[0].values()] == [
        s.fingerprint for s in here.values()
    ]


def test_a_table_that_was_damaged_in_the_bucket_is_found(tmp_path, bucket):
    write_all(tmp_path)
    settings = config(tmp_path, dir=f"{bucket.url}/prepared")
    pipeline.build_streams(settings, ASSEMBLE, image_margin=0)
    (name,) = [name for name in bucket.names() if name.endswith("/ids.bin")]
    data = bytearray(bucket.objects[name][0])
    data[0] ^= 1
    bucket.server.put(bucket.name, name, data)
    folder = f"{bucket.url}/{name.rpartition('/')[0]}"
    with pytest.raises(DataError, match=rf"(?s)damaged.*{folder}/ids\.bin.*remove {folder}"):
        TextTable.open(folder)


def test_official_files_in_a_bucket_are_copied_without_pictures(tmp_path, bucket):
    write_coco(
        tmp_path / "official", train2014=range(6), val2014=range(6, 9), val2017=range(20, 25)
    )
    (tmp_path / "official" / "COCO_val2014_000000000006.jpg").touch()
    write_images(tmp_path / "store", SPEC, *((str(i), image(i)) for i in range(9)))
    bucket.copy(tmp_path / "official", "all/coco_captions")
    here = datasets.prepare(official_config(tmp_path).data)
    there = datasets.prepare(official_config(tmp_path, manual_dir=f"{bucket.url}/all").data)
    for split in ("train2014+val2014", "val2017"):
        assert list(there.rows(split)) == list(here.rows(split))
        assert there.fingerprint(split) == here.fingerprint(split)
    assert not [name for _, name in bucket.server.asked if name.endswith(".jpg")]
    with pytest.raises(DataError, match=r"(?s)cannot be used.*gs://not-there"):
        datasets.prepare(official_config(tmp_path, manual_dir="gs://not-there/all").data)


@pytest.mark.slow  # TFDS builds a table
def test_a_built_table_in_a_bucket_is_read(tmp_path, bucket):
    manual = write_coco(tmp_path / "official", train2014=range(6))
    builder.build(coco_captions.BUILDER, manual, str(tmp_path / "built"))
    bucket.copy(tmp_path / "built", "built")
    data = official_config(tmp_path, train_split="train2014").data
    expected = list(datasets.prepare(data).rows("train2014"))
    data.update(tfds_dir=f"{bucket.url}/built", manual_dir="")
    assert list(datasets.prepare(data).rows("train2014")) == expected


def npz(path, count=6):
    made = [image(i) for i in range(count)]
    np.savez(
        path,
        paths=[f"img{i}.jpg" for i in range(count)],
        hw=[[one["height"], one["width"]] for one in made],
        offset=np.cumsum([0, *(len(one["boxes"]) for one in made)]),
        boxes=np.concatenate([one["boxes"] for one in made]),
        feat=np.concatenate([np.pad(one["features"], ((1, 0), (0, 0))) for one in made]),
    )
    return [str(path)]


def test_an_import_into_a_bucket_gives_the_same_store(tmp_path, bucket, capsys, monkeypatch):
    files, out = npz(tmp_path / "in.npz"), f"{bucket.url}/store"
    assert imports(["npz", *files, f"--out={tmp_path / 'store'}", "--detector=toy"]) == 0
    upload = remote.upload_folder

    def killed(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(remote, "upload_folder", killed)
    assert imports(["npz", *files, f"--out={out}", "--detector=toy"]) == 130
    monkeypatch.setattr(remote, "upload_folder", upload)
    assert bucket.names() == []
    assert imports(["npz", *files, f"--out={out}", "--detector=toy"]) == 0  # goes on
    here, there = RegionStore.open(tmp_path / "store"), RegionStore.open(out)
    assert here.fingerprint == there.fingerprint
    assert not list((tmp_path / "cache").rglob("*.partial"))
    assert imports(["npz", *files, f"--out={out}", "--detector=toy"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert imports(["npz", f"{bucket.url}/in.npz", f"--out={tmp_path / 'other'}"]) == 1
    assert "an import's input must be on this machine" in capsys.readouterr().err


def test_tools_read_and_write_in_a_bucket(tmp_path, bucket, capsys):
    write_store(f"{bucket.url}/store", 12)
    store = f"{bucket.url}/store"
    assert doctor(["verify", store]) == 0
    assert "12, 0 damaged" in capsys.readouterr().out
    assert doctor(["inspect", store]) in (0, 1)
    assert "gs://" in capsys.readouterr().out
    assert convert_store.main([store, f"{bucket.url}/small", "--dtype=int8"]) == 0
    assert RegionStore.open(f"{bucket.url}/small").spec.dtype == "int8"
    pool = f"{bucket.url}/pool.npz"
    assert hard_negatives.main([store, f"--out={pool}", "--neighbours=3"]) == 0
    assert hard_negatives.load(pool).neighbours.shape == (12, 3)
    answers = AnswerVocabulary(["yes", "no"], "here")
    answers.save(f"{bucket.url}/answers.json")
    assert AnswerVocabulary.load(f"{bucket.url}/answers.json").labels == answers.labels
    assert json.loads(bucket.objects["answers.json"][0]) == ["yes", "no"]


def test_what_must_be_on_this_machine_says_so(tmp_path, bucket, capsys):
    write_store(tmp_path / "store", 3)
    for more in (["--json", f"{bucket.url}/x.json"], ["--pictures", f"{bucket.url}/pictures"]):
        assert doctor(["inspect", str(tmp_path / "store"), *more]) == 1
        assert "must be on this machine" in capsys.readouterr().err
    write_all(tmp_path / "data")
    settings = config(tmp_path / "data", pictures=f"{bucket.url}/pictures")
    with pytest.raises(DataError, match=r"(?s)pictures must be on this machine.*gcloud storage cp"):
        pictures.open_pictures(settings.data, datasets.prepare(settings.data))
