"""Sockets: how requests come in and how replies, whole or damaged, go out."""

from __future__ import annotations
