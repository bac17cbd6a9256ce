"""Flickr8k with spoken captions: finds and reads the data set, decodes files, makes batches, makes a synthetic set.

May import nothing else of this project.
"""

from tensorboard_sidecar.trainer.data.batch import Batch
from tensorboard_sidecar.trainer.data.epoch_counts import EpochCounts, EpochNotes, sum_counts
from tensorboard_sidecar.trainer.data.flickr8k import Flickr8k, Pair, read_flickr8k
from tensorboard_sidecar.trainer.data.loader import Loader, make_loader
from tensorboard_sidecar.trainer.data.report import DataError, DataReport, Problem
from tensorboard_sidecar.trainer.data.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

__all__ = [
    "END",
    "PAD",
    "START",
    "UNKNOWN",
    "Batch",
    "DataError",
    "DataReport",
    "EpochCounts",
    "EpochNotes",
    "Flickr8k",
    "Loader",
    "Pair",
    "Problem",
    "Vocabulary",
    "make_loader",
    "read_flickr8k",
    "sum_counts",
]
