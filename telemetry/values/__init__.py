"""User values to messages: numbers, tensors, pictures, sound, models.

Everything that reads a user's value, or copies one from a device, is here. Keeps nothing and sends nothing.
May import ``protocol``.
"""
