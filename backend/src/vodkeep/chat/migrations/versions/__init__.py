"""One module per revision, named ``<revision>_<what it does>.py``."""
