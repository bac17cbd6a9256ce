"""The reference trainer: text, image and audio aligned on Flickr8k, and an example of a program that uses telemetry.

May import ``protocol``, the public ``Telemetry`` and ``telemetry.values``.
"""
