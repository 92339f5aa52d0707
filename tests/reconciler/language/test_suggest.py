from reconciler.language.suggest import CANDIDATES_MAX, did_you_mean, suggest


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
