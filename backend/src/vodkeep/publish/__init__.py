"""Publishing on YouTube: uploads that are taken up where they broke, what YouTube says of them, and the quota."""

from __future__ import annotations
