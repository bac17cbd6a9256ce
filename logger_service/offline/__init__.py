"""Reads finished recordings and log directories for people: what they hold, and whether they are whole.

May import ``protocol`` and ``events``.
"""
