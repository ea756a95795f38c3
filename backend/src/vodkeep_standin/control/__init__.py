"""The control interface: change the scenario and the faults while it runs, over HTTP, from loopback only."""

from __future__ import annotations
