"""User values to messages: numbers, tensors, pictures, sound, models.

All code that reads a user's value, or copies a value from a device, is in this room. It stores and sends nothing.
May import ``protocol``.
"""
