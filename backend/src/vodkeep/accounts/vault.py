"""Tokens sealed with AES-256-GCM (NIST SP 800-38D), each bound to what it is and whose.

A sealed text is ``v1:`` and base64url of a random nonce of 96 bits, the ciphertext and its tag. The associated data
holds key id, provider, channel and kind, so that a text moved to another row or column does not open. Random nonces are
safe for 2^32 texts under one key: a token each hour for half a million years.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vodkeep.accounts.model import Kind, Provider
from vodkeep.errors import CredentialsError

FORM = "v1:"
_NONCE_BYTES = 12
_TAG_BYTES = 16


class TokenUnreadable(CredentialsError):
    """What is stored does not open with any key that is set."""

    code = "token_unreadable"


def key_id_of(key: bytes) -> str:
    """A name for a key, from which nobody can find the key."""
    return hashlib.sha256(b"vodkeep key id\0" + key).hexdigest()[:12]


class Vault:
    """Seals with the current key; opens with that, the old one, or, without any key, what was never sealed."""

    def __init__(self, key: bytes | None, old_key: bytes | None = None) -> None:
        self.key_id = None if key is None else key_id_of(key)
        self._keys = {key_id_of(each): AESGCM(each) for each in (old_key, key) if each is not None}

    def standing(self, key_id: str | None) -> str:
        """How a key id of a row relates to the keys that are set: current, old, unknown, or none."""
        if key_id is None:
            return "none"
        if key_id == self.key_id:
            return "current"
        return "old" if key_id in self._keys else "unknown"

    def seal(self, text: str, provider: Provider, channel: str, kind: Kind) -> str:
        """``text`` sealed with the current key; without one it stays as it is (its key id is None then)."""
        if self.key_id is None:
            return text
        nonce = os.urandom(_NONCE_BYTES)
        bound = _bound_to(self.key_id, provider, channel, kind)
        sealed = nonce + self._keys[self.key_id].encrypt(nonce, text.encode(), bound)
        return FORM + base64.urlsafe_b64encode(sealed).decode()

    def open(self, stored: str, key_id: str | None, provider: Provider, channel: str, kind: Kind) -> str:
        """What was sealed. Raises `TokenUnreadable`, which says which key is missing or that the text was changed."""
        if key_id is None:
            return stored
        cipher = self._keys.get(key_id)
        if cipher is None:
            raise TokenUnreadable(
                f"The stored {provider.label} token is encrypted with the key {key_id}, which is not set.",
                remedy=f"Set ENCRYPTION_KEY or ENCRYPTION_KEY_OLD to the key {key_id}, or connect the account again.",
            )
        try:
            sealed = _decoded(stored)
            bound = _bound_to(key_id, provider, channel, kind)
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound).decode()
        except (InvalidTag, ValueError) as error:
            raise TokenUnreadable(
                f"The stored {provider.label} token was changed, or belongs to another row.",
                remedy="Restore the table oauth_tokens from a backup, or connect the account again.",
            ) from error


def _bound_to(key_id: str, provider: Provider, channel: str, kind: Kind) -> bytes:
    """The associated data; JSON keeps apart what plain joining would blur."""
    return json.dumps(["vodkeep", key_id, str(provider), channel, str(kind)], ensure_ascii=False).encode()


def _decoded(stored: str) -> bytes:
    """The bytes of a sealed text. Raises ``ValueError``."""
    if not stored.startswith(FORM):
        raise ValueError("not sealed by us")
    try:
        sealed = base64.b64decode(stored.removeprefix(FORM), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    # Base64 has spare bits at its end: only one spelling counts.
    if base64.urlsafe_b64encode(sealed).decode() != stored.removeprefix(FORM):
        raise ValueError("not as it was written")
    if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
        raise ValueError("too short")
    return sealed
