"""The model: three encoders, a shared latent space, and a fusion core."""
