"""Randomness and augmentation: what changes tokens between the batch and the model, seeded per step and row.

`chain.Augment` is the whole of SeiT and SeiT++; each part has a module with a function of explicit parameters and one
that draws them from `StepRandom`. On the CPU only the rows that a draw has chosen are computed; on a device all are,
and nothing waits for it.
"""
