from __future__ import annotations

import difflib
import random

import pytest

from reconciler.language.suggest import CANDIDATES_MAX, COMPARED_MAX, did_you_mean, suggest


def test_the_closest_word_is_suggested() -> None:
    assert suggest("adress", ["address", "protocol"]) == "address"
    assert suggest("Listener", ["listeners", "clusters"]) == "listeners"
    assert suggest("xyz", ["address"]) is None
    assert suggest("a", []) is None


def test_words_of_other_proxies_are_understood() -> None:
    assert suggest("upstreams", ["listeners", "clusters", "frontends"]) == "clusters"
    assert suggest("host", ["hostname", "path"]) == "hostname"
    assert suggest("servers", ["backends", "retries"]) == "backends"
    assert suggest("servers", ["listeners", "clusters"]) == "clusters"
    assert suggest("host", ["path"]) is None


def test_the_hint() -> None:
    assert did_you_mean("adress", ["address"]) == 'did you mean "address"?'
    assert did_you_mean("zzz", ["address"]) is None


def test_too_many_names_are_not_compared() -> None:
    assert suggest("name-1", (f"name-{n}" for n in range(CANDIDATES_MAX + 1))) is None


def slipped(dice: random.Random, name: str) -> str:
    """A name as somebody writes it in a hurry."""
    at = dice.randrange(1, len(name) - 1)
    return dice.choice(
        [
            name[:at] + name[at + 1 :],
            name[:at] + dice.choice("abcxyz019") + name[at:],
            name[:at] + name[at + 1] + name[at] + name[at + 2 :],
            name[:at] + dice.choice("abcxyz019") + name[at + 1 :],
        ]
    )


def test_of_many_names_the_choice_is_as_good_as_by_all_comparisons() -> None:
    dice = random.Random(3)
    words = ["shop", "cart", "search", "login", "media", "api", "static", "billing", "mail", "auth"]
    places = ["eu", "us", "asia", "test"]
    names = [f"{a}-{b}-{n}" for a in words for b in places for n in ("blue", "green", "canary")]
    better = worse = 0
    for _ in range(120):
        word = slipped(dice, dice.choice(names))
        [compared] = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
        found = suggest(word, names)
        assert found is not None
        one, other = (ratio(word, each) for each in (found, compared))
        better, worse = better + (one > other), worse + (one < other)
    assert worse <= 1


def ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def test_comparisons_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    whole = difflib.SequenceMatcher.ratio

    def counted(self: difflib.SequenceMatcher[str]) -> float:
        nonlocal compared
        compared += 1
        return whole(self)

    monkeypatch.setattr(difflib.SequenceMatcher, "ratio", counted)
    names = [f"service-{number:04}" for number in range(1500)]
    assert suggest("service-0x07", names) is not None
    assert compared <= 2 * COMPARED_MAX, "the library asks twice for one that is close"
    assert suggest("nothing-like-these", [f"abc{number}" for number in range(5000)]) is None
