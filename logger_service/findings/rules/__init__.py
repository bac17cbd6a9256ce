"""The rules: one file a family, each a measure of samples and a table row of thresholds, advice and source.

``registry`` lists them all. May import ``protocol`` and the files of ``findings`` that define samples.
"""
