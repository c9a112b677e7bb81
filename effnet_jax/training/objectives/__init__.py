"""Objectives: (variables, batch, rng) -> loss, (metrics, new batch statistics).

A recipe that needs another loss body adds an objective here; the step stays as
it is.
"""
