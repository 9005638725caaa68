"""One file a kind of run: what it reads, builds, optimises, evaluates and exports. Keyword arguments, no Ray."""
