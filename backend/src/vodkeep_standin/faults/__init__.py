"""Everything that can go wrong, one file per fault.

A rule joins a match (which requests), a fault (what happens to them) and how often. ``ALL`` is the union that
rules are decoded into; a new fault is a new file and one more line here.
"""

from __future__ import annotations
