from schemas.entities.diagnostic import Diagnostic, sort_key


def test_it_reads_like_a_compiler() -> None:
    found = Diagnostic(
        "error", "shop.yaml", 4, 11, "unknown", 'did you mean "shop"?', "  cluster: shopp", 5
    )
    assert found.render() == (
        "shop.yaml:4:11: unknown\n"
        "    4 |   cluster: shopp\n"
        "      |           ^^^^^\n"
        '  hint: did you mean "shop"?'
    )


def test_a_warning_says_so() -> None:
    assert Diagnostic("warning", "a.yaml", 1, 2, "careful").render() == (
        "a.yaml:1:2: warning: careful"
    )


def test_what_concerns_a_whole_file_or_none_has_no_line() -> None:
    assert Diagnostic("error", "a.yaml", 0, 0, "too large").render() == "a.yaml: too large"
    assert Diagnostic("error", "", 0, 0, "more").render() == "more"


def test_a_long_line_is_cut_around_the_place() -> None:
    line = "x" * 500 + "HERE" + "y" * 500
    message, excerpt, carets = (
        Diagnostic("error", "a", 1, 501, "m", None, line, 4).render().split("\n")
    )
    assert message == "a:1:501: m"
    assert len(excerpt) < 200
    assert excerpt[carets.index("^") :].startswith("HERE")
    assert carets.endswith("^^^^")
    assert carets.count("^") == 4


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    rendered = Diagnostic("error", "a", 1, 1, "m", None, "\x1b[31mred\tx").render()
    assert "\x1b" not in rendered
    assert "\t" not in rendered


def test_json_and_order() -> None:
    first = Diagnostic("error", "a.yaml", 2, 1, "one")
    second = Diagnostic("error", "a.yaml", 10, 1, "two", "hint", "line")
    assert sorted([second, first], key=sort_key) == [first, second]
    assert second.to_json() == {
        "severity": "error",
        "file": "a.yaml",
        "line": 10,
        "column": 1,
        "message": "two",
        "hint": "hint",
        "source_line": "line",
    }


def test_what_somebody_wrote_stays_on_its_line() -> None:
    found = Diagnostic("error", "a\n.yaml", 1, 1, 'unknown key "x\ny\x1b[2J"', 'did you mean "\r"?')
    assert found.render().splitlines() == [
        'a\\n.yaml:1:1: unknown key "x\\ny\\x1b[2J"',
        '  hint: did you mean "\\r"?',
    ]
