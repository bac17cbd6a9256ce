"""Recordings as files: segments, readers, writers, durable writes, folder locks, key files.

The outbox, the journal and a replayed folder are all recordings. May import ``protocol``, nothing else of this project.
"""
