from reconciler.language.findings import later_first, place
from tests.reconciler.building import entity


def test_a_place_is_cited_by_file_and_line() -> None:
    assert place(entity("cluster", "a", file="team/a.yaml", line=7)) == "team/a.yaml:7"


def test_the_later_one_is_to_blame() -> None:
    first = entity("cluster", "a", file="a.yaml", line=9)
    second = entity("cluster", "b", file="a.yaml", line=10)
    third = entity("cluster", "c", file="b.yaml", line=1)
    assert later_first(first, second) == (second, first)
    assert later_first(second, first) == (second, first)
    assert later_first(third, second) == (third, second)
