import pytest

from reconciler.language.document import read_document


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "a:\n  b: 1\n c: 2\n",
            '3:2 "c" is too far left to stand beside b (line 2)',
            "indent line 3 more",
        ),
        ("a: b: c", '1:5 a ":" is not possible here', "quotes"),
        ("\ta: 1", "1:1 a tab cannot indent in YAML", "use spaces"),
        ("a: |\n x\n\tb", "3:1 a tab cannot indent in YAML", "use spaces"),
        ("a: @x", '1:4 no value begins with "@"', "quotes"),
        ("a: `x", '1:4 no value begins with "`"', "quotes"),
        ("a: {b: c:1}", '1:9 a ":" within { } or [ ] is not possible here', '"127.0.0.1:8080"'),
        ("a: [1", '1:4 the "[" that opens here is never closed', "close it"),
        ("a: {b: 1\n\n", '1:4 the "{" that opens here is never closed', "close it"),
        ("a: [1\nb: 2", '1:4 the "[" that opens here is never closed', 'close it: "]"'),
        (
            "a: [1\n  b: 2",
            '2:4 expected a "," or a "]" here',
            "close the list; what is broken began",
        ),
        ("a: [\n# c\n", "2:3 expected a value here, and the file ends", "not complete"),
        ("\t", "1:1 a tab cannot indent in YAML", "use spaces"),
        ("a: 'x\nb: 1", "1:4 the quotes that open here are never closed", "close it"),
        ('a: "\\q"', "1:5 this escape is unknown", "single quotes"),
        ("a: - b", "1:4 a list is not possible here", "line of its own"),
        ("- a\n-b\n", 'expected a ":" after the key', "not complete"),
        ("a: 1\n- b", "2:1 expected a key here", "indentation"),
        ("- a\nb: 1", '2:1 expected a "-" here', "indentation"),
        ("%FOO\n---\na: 1", "the file is not YAML: found unknown directive name", None),
    ],
)
def test_syntax_errors_in_plain_words(text: str, message: str, hint: str | None) -> None:
    (found,) = read_document("a.yaml", text.encode()).diagnostics
    assert message in f"{found.line}:{found.column} {found.message}"
    assert (found.hint is None) == (hint is None)
    assert hint is None or hint in str(found.hint)
