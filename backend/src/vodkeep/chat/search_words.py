"""What a person types into a search box, and what each database is asked for it; pure.

Words must all be there; ``"words in quotes"`` must follow each other. There is no other syntax, and nothing that is
typed is an error: whatever is no letter and no digit only separates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MOST_TERMS = 16
"""Terms beyond these are not looked at; a message has no room for more."""

_TERM = re.compile(r'"([^"]*)"?|([^\s"]+)')


def read_terms(typed: str) -> tuple[str, ...]:
    """The words and phrases, in order, each once; without those in which there is nothing to find."""
    found = (phrase or word for phrase, word in _TERM.findall(typed.replace("\0", " ")))
    terms = dict.fromkeys(" ".join(term.split()) for term in found if _says_something(term))
    return tuple(terms)[:MOST_TERMS]


def _says_something(term: str) -> bool:
    # The categories that SQLite's unicode61 makes words of (https://www.sqlite.org/fts5.html#unicode61_tokenizer).
    return any(unicodedata.category(character)[0] in "LN" for character in term)


def fts5_query(terms: Sequence[str], chatter_ids: Sequence[int] | None) -> str:
    """An FTS5 expression (https://www.sqlite.org/fts5.html section 3): every term, and one of the chatters if given.

    Each term is a string, in which only the quote means anything; the rest is the tokenizer's affair.
    """
    parts = [f"body : {_string(term)}" for term in terms]
    if chatter_ids is not None:
        parts.append(f"chatter_id : ({' OR '.join(_string(str(number)) for number in chatter_ids)})")
    return " AND ".join(f"({part})" for part in parts)


def _string(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def snippet(body: str, terms: Sequence[str], *, longest: int = 200) -> str:
    """At most about ``longest`` characters of ``body``, around the first term that is found there as it was typed."""
    if len(body) <= longest:
        return body
    lowered = body.lower()
    places = [place for term in terms if (place := lowered.find(term.lower())) >= 0]
    start = max(0, min(min(places, default=0) - longest // 4, len(body) - longest))
    end = start + longest
    return ("…" if start else "") + body[start:end] + ("…" if end < len(body) else "")
