"""From the bytes of a YAML file to validated entities, and every error with its place.

Pure: no file, no clock. Knows `schemas` alone.
"""
