"""The folders a logger writes: one logger each, and enough free space.

May import ``protocol`` and the logger's own errors.
"""
