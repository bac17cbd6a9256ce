"""The logger: journals what trainers send and projects it to TensorBoard event files.

``intake`` receives and journals, ``projection`` turns recordings into events, ``offline`` reads finished recordings.
May import ``protocol``; needs no torch.
"""
