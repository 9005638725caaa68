"""Pictures, curves, one HTML page and the short table that ends a command."""
