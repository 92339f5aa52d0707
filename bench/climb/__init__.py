"""Rates raised until failure: what comes through, how late, and what happens beyond."""
