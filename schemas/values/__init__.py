"""The types of values: names and addresses, durations and sizes, regular expressions.

May know `schemas.base`.
"""
