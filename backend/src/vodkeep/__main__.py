"""``python -m vodkeep`` is the ``vodkeep`` command."""

from vodkeep.cli import main

main()
