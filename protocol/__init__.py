"""What trainers and loggers agree on: types and their bytes.

Pure functions over bytes and arrays, frozen message types, limits. No I/O: files are in ``storage`` and ``outbox``.
Needs no torch, no zmq, no matplotlib. SPEC.md defines every byte.
"""
