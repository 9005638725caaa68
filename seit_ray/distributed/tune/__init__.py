"""Ray Tune: a sweep of trainings."""
