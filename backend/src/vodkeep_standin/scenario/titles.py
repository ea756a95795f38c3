"""Titles that broke other people's programs."""

from __future__ import annotations

EMOJI = "🔴 LIVE 👨‍👩‍👧‍👦 speedrun 🏳️‍🌈 e\u0301clair ＦＵＬＬ 100%% :: !sub | #1"
MARKUP = "<b>bold</b> <script>alert(1)</script> \"quotes\" 'single' & &amp; {{ 7*7 }} %(title)s ${HOME} `id`"
TRAVERSAL = "../../../etc/passwd ..\\..\\windows\\system32 /absolute CON aux.txt. \x07 tab\there"
LONG = ("A very long title that never ends " * 10)[:300]
RIGHT_TO_LEFT = "\u202egpj.elif\u202c \u200fשלום עולם\u200f \u2067مرحبا بالعالم\u2069 end"
BLANK = " \u00a0\u200b "
HOSTILE = (EMOJI, MARKUP, TRAVERSAL, LONG, RIGHT_TO_LEFT, BLANK)
