"""The verbs: each file turns a config into a call and a report. `seit-ray <verb>` or `python pipelines/<verb>.py`."""
