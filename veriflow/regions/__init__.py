"""Regions of latent space: balls, shells, boxes and their products."""
