"""Fetches a broadcast's picture, proves it and makes it playable."""

import os

# numpy's linear algebra is not used here. Left to itself it starts a thread for each processor when it is imported, and
# those turn in circles for a while before they go to sleep.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
