"""When the command began: a budget of time counts from here, so this is imported before all else."""

import time

STARTED = time.monotonic()
