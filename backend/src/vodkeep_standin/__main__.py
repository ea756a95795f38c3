"""``python -m vodkeep_standin``."""

from __future__ import annotations

from vodkeep_standin.cli import main

if __name__ == "__main__":
    main()
