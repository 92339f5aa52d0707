"""The version, written down where reading it costs nothing.

`importlib.metadata` would take 25 ms of every `kakehi --version`. tests/test_tree.py keeps it equal
to pyproject.toml and Cargo.toml.
"""

VERSION = "0.1.0"
