"""Numbers to PNG pictures: heatmaps, histogram overviews, contact sheets; the only room that imports matplotlib.

The same numbers give the same bytes. May import ``protocol``.
"""
