"""How good a model is: each evaluation yields named values."""
