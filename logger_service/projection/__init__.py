"""Recordings to event files, restartable at any record, in a process of its own.

Reads recordings and writes through ``events``. May import ``protocol``, ``events`` and ``folders``.
"""
