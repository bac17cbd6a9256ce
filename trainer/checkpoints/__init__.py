"""Saves and restores a run: model, optimizer, random state, data order; and decides how a run goes on.

May import the trainer's model, data and settings.
"""
