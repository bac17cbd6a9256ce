"""Flickr8k with spoken captions: finds and reads the data set, decodes files, makes batches, makes a synthetic set.

May import nothing else of this project.
"""
