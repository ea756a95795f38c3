"""Logs, metrics and correlation ids."""
