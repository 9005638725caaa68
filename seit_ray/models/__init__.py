"""Networks of tokens and of pixels: stem, transformer, masked token model, TokenAdapt; their weights, and files."""
