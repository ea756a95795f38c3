"""The other commands of the command line, run to their end in a home."""

from __future__ import annotations

import subprocess
import sys

from support.home import Home


def vodkeep(home: Home, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run ``vodkeep <arguments>``; ``extra`` are variables of its environment."""
    return subprocess.run(
        [sys.executable, "-m", "vodkeep", *arguments],
        env=home.env(**extra),
        cwd=home.root,
        capture_output=True,
        text=True,
        timeout=90.0,
        check=False,
    )
