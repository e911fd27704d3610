"""What clean splits leave: the table, its command, and the lists that it writes."""

import json

import numpy as np
import pytest
from official_data import write_coco

from input_pipeline.streams import clean_splits
from input_pipeline.streams.clean_splits import Cleaned

VAL = "split 'val' of /f/a.json, /f/b.json"


def test_table_against_numbers_by_hand():
    parts = [
        ("answers", Cleaned("trainval", 750, {VAL: 200, "/f/x.txt": 50})),
        ("pairs", Cleaned("train", 1000, {})),
    ]
    assert clean_splits.table(parts).splitlines() == [
        "clean splits: texts whose images are evaluated on are left out of training",
        "training texts  split      kept  left out   share  whose images are in",
        "answers         trainval    750       250  25.0 %  split 'val' of a.json, b.json (200)",
        "                                                   /f/x.txt (50)",
        "pairs           train     1,000         0   0.0 %",
        "together                  1,750       250  12.5 %",
        "mean of the shares 12.5 %",
    ]


@pytest.fixture
def files(tmp_path):
    """COCO's captions, questions about Visual Genome, and pairs on Flickr30k's pictures."""
    write_coco(tmp_path / "coco_captions", train2014=range(100, 110), val2014=[103, 501])
    questions = [
        dict(id=i, qas=[dict(qa_id=i, image_id=i, question="what?", answer="a dog")])
        for i in range(1, 10)
    ]
    (tmp_path / "visual_genome_qa").mkdir()
    (tmp_path / "visual_genome_qa" / "question_answers.json").write_text(json.dumps(questions))
    same = [{"image_id": 2, "coco_id": 501}, {"image_id": 3, "coco_id": 104}]
    (tmp_path / "image_data.json").write_text(json.dumps(same))
    (tmp_path / "snli_ve").mkdir()
    for split, images in (("train", [7, 8, 8, 9]), ("test", [8])):
        lines = [
            json.dumps(
                dict(
                    pairID=f"{split}{i}", sentence2="a dog", gold_label="neutral", Flikr30kID=str(n)
                )
            )
            for i, n in enumerate(images)
        ]
        (tmp_path / "snli_ve" / f"snli_ve_{split}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(files, *args):
    return clean_splits.main([f"--manual_dir={files}", *args])


def test_the_union_of_all_is_left_out_of_each(files, capsys, monkeypatch):
    from input_pipeline.datasets import visual_genome_qa

    monkeypatch.setattr(visual_genome_qa, "VAL", 1)  # of so small a file
    status = run(
        files,
        "coco_captions:train2014:val2014",
        "visual_genome_qa:train",
        "snli_ve:train:test",
        f"--image_data={files}/image_data.json",
        f"--out={files}/lists",
    )
    told = capsys.readouterr()
    assert status == 0, told.err
    rows = {line.split()[0]: line.split()[1:5] for line in told.out.splitlines() if line}
    assert rows["coco_captions"] == ["train2014", "9", "1", "10.0"]
    assert rows["visual_genome_qa"] == ["train", "7", "1", "12.5"]  # image 2 is COCO's 501
    assert rows["snli_ve"] == ["train", "2", "2", "50.0"]
    assert "coco_captions:val2014 (1)" in told.out
    # Both ways: an image of both collections is on both lists.
    assert (files / "lists" / "coco.txt").read_text() == "coco:103\ncoco:501\n"
    assert (files / "lists" / "vg.txt").read_text() == "vg:2\n"
    assert np.load(files / "lists" / "coco_ids.npy").tolist() == [103, 501]
    assert np.load(files / "lists" / "flickr30k_ids.npy").dtype == np.int64


def test_written_lists_do_what_the_splits_did(files, capsys):
    run(files, "coco_captions:train2014:val2014", "snli_ve:train:test", f"--out={files}/lists")
    by_splits = capsys.readouterr().out.splitlines()[2:4]
    for kind in ("{}={}_ids.npy", "{}={}.txt"):
        lists = ",".join(
            kind.format(space, files / "lists" / space) for space in ("coco", "flickr30k")
        )
        assert run(files, "coco_captions:train2014", "snli_ve:train", f"--held_out={lists}") == 0
        by_lists = capsys.readouterr().out.splitlines()[2:4]
        counts = [[line.split()[:6] for line in lines] for lines in (by_splits, by_lists)]
        assert counts[0] == counts[1]


def test_what_is_wrong_is_told(files, capsys):
    ids = files / "ids.npy"
    np.save(ids, [1, 2])
    for args, message in (
        (["coco_captions"], "no split of a data set"),
        (["nothing:train"], "no split of a data set"),
        (["snli_ve:train:dev"], "snli_ve_dev.jsonl"),
        (["refcoco,variant=refcoco-:train"], "unknown option of a data set"),
        (["refcoco,colour=red:train"], "unknown option of a data set"),
        (["snli_ve:train", f"--held_out=flickr30k={ids}"], "held-out images are unknown"),
        (["snli_ve:train", "coco_captions:train2014", f"--held_out={ids}"], "several collections"),
    ):
        assert run(files, *args) == 1
        assert message in capsys.readouterr().err
    assert run(files, "snli_ve:train:test", f"--out={files}") == 1
    assert "exists" in capsys.readouterr().err
