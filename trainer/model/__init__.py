"""The model: an encoder each for text, image and audio, a shared latent space, and a fusion network.

May import nothing else of this project.
"""
