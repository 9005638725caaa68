"""Randomness and augmentation: what changes tokens between the batch and the model, seeded per step and row."""
