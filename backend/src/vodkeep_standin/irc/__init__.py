"""Twitch's chat over IRC, with TLS, on a port of its own.

`lines.py` writes what is said, `program.py` says when, `session.py` is one client, `server.py` is all of them and what
a test can do to them.
"""
