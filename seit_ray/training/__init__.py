"""One loop for every objective: schedules, parameter groups, checkpoints, metrics, and the runs built of them."""
