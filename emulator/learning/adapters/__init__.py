"""Adapters: frozen projections A, spectral densities, masks, and the LoRA layers themselves."""
