"""Evenly spaced samples."""

from core.spacing import evenly_spaced


def test_samples_reach_from_the_first_to_the_last():
    assert evenly_spaced(10, 3).tolist() == [0, 4, 9]
    assert evenly_spaced(21, 4).tolist() == [0, 6, 13, 20]
    assert evenly_spaced(5, 1).tolist() == [0]


def test_no_more_than_there_are():
    assert evenly_spaced(4, 9).tolist() == evenly_spaced(4, None).tolist() == [0, 1, 2, 3]
    assert evenly_spaced(5, 0).tolist() == []
