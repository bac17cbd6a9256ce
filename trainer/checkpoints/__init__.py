"""Saves and restores a run (model, optimizer, random states), and decides from which checkpoint a run resumes.

May import ``protocol``, ``protocol.storage``, the trainer's ``model``, ``data`` and ``settings``, and four modules of
``trainer``: ``distributed``, ``invocation``, ``progress``, ``schedule``.
"""
