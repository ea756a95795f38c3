"""Fixtures of the capture tests."""

from __future__ import annotations

from support.wheels import wheels

__all__ = ["wheels"]
