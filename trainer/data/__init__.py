"""Flickr8k with spoken captions: read, split, decoded and batched."""

from trainer.data.batch import Batch
from trainer.data.flickr8k import Flickr8k, Pair, read_flickr8k
from trainer.data.loader import Loader, make_loader
from trainer.data.report import DataError, DataReport, Problem
from trainer.data.seen import Seen, SeenNotes, seen_together
from trainer.data.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

__all__ = [
    "END",
    "PAD",
    "START",
    "UNKNOWN",
    "Batch",
    "DataError",
    "DataReport",
    "Flickr8k",
    "Loader",
    "Pair",
    "Problem",
    "Seen",
    "SeenNotes",
    "Vocabulary",
    "make_loader",
    "read_flickr8k",
    "seen_together",
]
