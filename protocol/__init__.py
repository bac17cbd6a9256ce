"""The protocol between trainers and loggers: message types, their bytes, limits. SPEC.md defines every byte.

Pure functions over bytes and arrays, and frozen types. No I/O: files are in ``storage`` and ``outbox``. Imports no
torch, zmq or matplotlib.
"""
