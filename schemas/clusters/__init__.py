"""How the backends of a cluster are chosen, looked after and spared: a key of it in each module.

A key, or a value of one, that no part of the engine does yet is marked as such
(`schemas.base.Later`) and refused by the validator. May know `schemas.routes` and what is below it.
"""
