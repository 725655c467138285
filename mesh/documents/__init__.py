"""The front end: text -> policies, every mistake at its place. It reads no file itself.

`front_end` does it all: `parser` (YAML, bounds, places) -> `schema` and `rules` (one document)
-> `codec` (typed policy, canonical bytes, digest) -> `linker` (the whole set).
"""

from mesh.documents.codec import canonical, decode, digest, to_yaml
from mesh.documents.front_end import Result, front_end
from mesh.documents.index import Parsed
from mesh.documents.parser import (
    MAX_DOCUMENT_BYTES,
    MAX_DOCUMENTS,
    MAX_FILE_BYTES,
    Document,
    ParseResult,
    SourceText,
    parse,
)
from mesh.documents.references import references
from mesh.documents.schema import API_VERSIONS, load

__all__ = [
    "API_VERSIONS",
    "MAX_DOCUMENTS",
    "MAX_DOCUMENT_BYTES",
    "MAX_FILE_BYTES",
    "Document",
    "ParseResult",
    "Parsed",
    "Result",
    "SourceText",
    "canonical",
    "decode",
    "digest",
    "front_end",
    "load",
    "parse",
    "references",
    "to_yaml",
]
