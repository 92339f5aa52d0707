"""Suites and clients that others wrote, run against the product. See `tests/install-tools`."""
