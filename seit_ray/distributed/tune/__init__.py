"""Ray Tune: the trials of a sweep, or of a study."""

import os

# Before an experiment: no log files of Tune's own for each trial, no Ctrl-C that it swallows, no list of errors.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints errors however silent it is told to be
