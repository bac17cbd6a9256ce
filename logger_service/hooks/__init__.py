"""Hooks: a command or a web address of the operator's choice is told the findings that open and clear.

A hook may fail, hang or flood: it has a thread of its own, limits of time, rate and size, and never holds up the
logger. May import ``protocol``, and the logger's limits, counters and errors.
"""
