"""Division into training and validation by names."""

import pytest

from paddleseg_ext.data.splitting import Grouping, split_by_name

FRAMES = [f"{film}/{film}_{number:03d}" for film in "abcdef" for number in range(20)]


def test_the_division_stays_as_data_are_added() -> None:
    few = split_by_name(FRAMES[:60], 0.3)
    more = split_by_name(FRAMES, 0.3)
    assert few == more & set(FRAMES[:60])
    assert 20 < len(more) < 52


@pytest.mark.parametrize("by", ["folder", "sequence"])
def test_what_belongs_together_stays_together(by: Grouping) -> None:
    chosen = split_by_name(FRAMES, 0.3, by)
    films = {name[0] for name in chosen}
    assert 0 < len(films) < 6
    assert chosen == {name for name in FRAMES if name[0] in films}


def test_one_sequence_is_cut_in_two() -> None:
    names = [f"drive_{number}" for number in range(1, 12)]
    assert split_by_name(names, 0.2, "sequence") == {"drive_10", "drive_11"}


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_names_and_shares_of_none_and_all(count: int) -> None:
    names = FRAMES[:count]
    assert split_by_name(names, 0) == set()
    assert split_by_name(names, 1) == set(names)
    for share in (0.001, 0.5, 0.999):
        assert 0 < len(split_by_name(names, share)) < count or count < 2
