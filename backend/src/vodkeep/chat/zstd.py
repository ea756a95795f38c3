"""Zstandard: the standard library's from Python 3.14 on, the same code as ``backports.zstd`` before."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor, ZstdError, ZstdFile
else:
    from backports.zstd import ZstdCompressor, ZstdError, ZstdFile

MAGIC = b"\x28\xb5\x2f\xfd"
"""How a file begins (RFC 8878, section 3.1.1)."""

__all__ = ["MAGIC", "ZstdCompressor", "ZstdError", "ZstdFile"]
