"""On the path of commands that tests start: the Rays that they start take their processes from `tests.warm`."""

import os
import sys

sys.executable = os.environ.get("WARM_PYTHON", sys.executable)
