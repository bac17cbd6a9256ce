"""The folders that a logger writes: each has one writer, and enough free space.

May import ``protocol`` and the logger's own errors.
"""
