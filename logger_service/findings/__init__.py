"""What is wrong with a run: pure rules over its records, which say since when, and on what evidence.

``rules`` measures, ``watch`` feeds the rules and collects findings. No file, no clock: live equals replay.
May import ``protocol``.
"""
