"""The chaos test: real services, a real database and the stand-in, and everything that can go wrong at once.

How its parts work together::

    plan.py        what will happen, and when: a pure function of the seed
    broadcasts.py  the VODs of the pretended Twitch, and how each of them has to end
    lines.py       what can be wrong with the line
    members.py     the service's processes: killed, frozen, stopped, and started again
    hands.py       the operator, who works in the database by hand
    ordeal.py      carries the plan out, waits until everything has settled, and collects the evidence
    evidence.py    what is known at the end, as plain values
    judge.py       which promises were broken, each as a sentence that names the item
    files.py       what the kept films hold, packet by packet
    figures.py     what it took: faults, bytes fetched twice, recovery times

``python -m support.chaos --help`` runs it (``make chaos``); a short form is ``tests/acceptance/test_chaos.py``.
"""
