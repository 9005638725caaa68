"""Ray Train: a run on several workers, with a board between them and the driver."""
