"""The command line that all verbs share: arguments, places, progress, the record of a run."""
