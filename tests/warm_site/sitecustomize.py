"""On the path of commands that tests start: the Rays that they start take their workers from `tests.warm_workers`."""

import os
import sys

sys.executable = os.environ.get("WARM_PYTHON", sys.executable)
