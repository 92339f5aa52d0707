"""Benchmarks: Kakehi beside its peers, and what a change costs. `python -m bench --help`.

Everything is measured as a ratio inside one run, in interleaved rounds, because machines that are
shared with others are only comparable with themselves. docs/benchmarks.md has the method and the
figures. The daemon and the repository come from `tests.harness`, so that what is measured is what
is tested.
"""
