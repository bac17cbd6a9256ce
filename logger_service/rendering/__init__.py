"""Numbers to PNG pictures: heatmaps, overviews, contact sheets; the same numbers give the same bytes.

The only room that imports matplotlib, which takes a second: the functions that draw import it. May import ``protocol``.
"""
