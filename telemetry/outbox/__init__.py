"""Keeps records in shared memory, then on disk, until a logger or a recording has them.

Appending touches memory only; the sender thread does the file work. May import ``protocol``.
"""
