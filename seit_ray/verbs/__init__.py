"""What a user can do: one verb, one file. `check` is its dry run, the verb's own name runs it."""
