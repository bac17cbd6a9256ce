"""From recordings to event files, in a process of its own that may restart at any record.

Reads recordings, writes through ``events``. May import ``protocol``, ``counters``, ``events`` and ``folders``.
"""
