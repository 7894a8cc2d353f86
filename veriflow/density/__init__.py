"""Radial densities in latent space, their level sets and exact masses."""
