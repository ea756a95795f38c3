"""The other commands of the command line, run to their end in a home."""

from __future__ import annotations

import subprocess

from support.home import Home
from support.warm import run


def vodkeep(home: Home, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run ``vodkeep <arguments>``; ``extra`` are variables of its environment."""
    return run("vodkeep", *arguments, env=home.env(**extra), cwd=home.root, timeout_s=90.0, cold=home.cold)
