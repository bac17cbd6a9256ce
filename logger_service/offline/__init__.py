"""Reads finished recordings and log directories: describes their contents, and verifies that they are complete.

May import ``protocol`` and ``events``.
"""
