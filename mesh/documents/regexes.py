"""Regular expressions as RE2 reads them (github.com/google/re2/wiki/Syntax).

Envoy compiles every expression with RE2 and rejects the whole resource when it cannot. This is
a reader of the same grammar, a little stricter: what it accepts, RE2 accepts.
"""

import re
import string
import sys
from typing import NamedTuple

MAX_LENGTH = 1024
MAX_REPEAT = 1000
# RE2 compiles into 8 MiB at most, which is 131,072 instructions of 16 bytes.
MAX_INSTRUCTIONS = 100_000

_LITERAL_ESCAPES = frozenset(string.punctuation) | frozenset("afnrtv")
_CLASS_ESCAPES = frozenset("dDsSwW")
_EMPTY_ESCAPES = frozenset("AbBz")
_COUNT = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
_HEX = re.compile(r"x(?:[0-9A-Fa-f]{2}|\{([0-9A-Fa-f]{1,6})\})")
_UNICODE = re.compile(r"[pP](?:\{\^?([A-Za-z_]+)\}|([A-Z]))")
_GROUP = re.compile(
    r"\?(?:P?<([A-Za-z_][A-Za-z0-9_]*)>|(?:[imsU]*(?:-[imsU]+)?(:)|(?:[imsU]+(?:-[imsU]+)?|-[imsU]+)(\))))"
)
_POSIX = re.compile(
    r"\[:\^?(?:alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|word|xdigit):\]"
)
_CATEGORIES = re.compile(r"C[cfos]?|L[lmotu]?|M[cen]?|N[dlo]?|P[cdefios]?|S[ckmo]?|Z[lps]?")
_SCRIPTS = frozenset({"Any", "Arabic", "Cyrillic", "Greek", "Han", "Hangul", "Hebrew", "Latin"})
_REFUSED_GROUPS = {
    "(?=": "lookahead",
    "(?!": "lookahead",
    "(?<=": "lookbehind",
    "(?<!": "lookbehind",
    "(?>": "an atomic group",
    "(?#": "a comment",
    "(?|": "a branch reset",
    "(?(": "a condition",
}


class _RefusedError(ValueError):
    """Its text says why."""


def refusal(pattern: str) -> str | None:
    """Why RE2 cannot read `pattern`; None if it can."""
    if len(pattern) > MAX_LENGTH:
        return f"it has {len(pattern)} characters, at most {MAX_LENGTH}"
    try:
        _Reader(pattern).read()
    except _RefusedError as error:
        return str(error)
    return None


class _Size(NamedTuple):
    """`repeats` is the largest product of counted repeats, one inside the other."""

    repeats: int
    instructions: int


# Instructions at most: a character is up to four bytes, a class a few ranges of them.
_CHARACTER = _Size(1, 4)
_CLASS = _Size(1, 64)
_UNICODE_CLASS = _Size(1, 5000)
# `(?i)` takes no repeat.
_FLAGS = _Size(1, 0)


class _Reader:
    """Reads a pattern once, from left to right."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._names: set[str] = set()

    def read(self) -> None:
        self._alternatives(depth=0)
        if self._at < len(self._text):
            raise _RefusedError('a ")" without "("')

    def _alternatives(self, depth: int) -> _Size:
        """Up to the end of the group."""
        if depth > MAX_REPEAT // 20:
            raise _RefusedError("too many groups inside one another")
        repeats = instructions = 1
        while self._at < len(self._text) and self._text[self._at] != ")":
            if self._text[self._at] == "|":
                self._at += 1
                continue
            piece = self._piece(depth)
            repeats = max(repeats, piece.repeats)
            instructions += piece.instructions
        if instructions > MAX_INSTRUCTIONS:
            raise _RefusedError("it is too large: fewer or smaller repeats are needed")
        return _Size(repeats, instructions)

    def _piece(self, depth: int) -> _Size:
        """One atom with its repeat."""
        atom = self._atom(depth)
        if atom is _FLAGS:
            return atom
        repeats, instructions = atom
        repeated = False
        while (count := self._repeat()) is not None:
            if repeated:
                raise _RefusedError("two repeats in a row; RE2 has no possessive ones")
            repeated = True
            repeats *= max(count, 1)
            instructions = instructions * max(count, 1) + 1
            if repeats > MAX_REPEAT:
                raise _RefusedError(f"more than {MAX_REPEAT} repeats, one inside the other")
        return _Size(repeats, instructions)

    def _repeat(self) -> int | None:
        """Takes a repeat if one is here: how often at most it is written out, 1 for `*`."""
        char = self._text[self._at : self._at + 1]
        count = 1
        if char and char in "*+?":
            self._at += 1
        elif char == "{" and (match := _COUNT.match(self._text, self._at)):
            low, comma, high = int(match[1]), match[2], match[3]
            count = int(high) if high else low
            if max(low, count) > MAX_REPEAT or (comma and high and count < low):
                raise _RefusedError(f'"{match[0]}" is no valid repeat (at most {MAX_REPEAT})')
            self._at = match.end()
        else:
            return None
        if self._text[self._at : self._at + 1] == "?":
            self._at += 1
        return count

    def _atom(self, depth: int) -> _Size:
        char = self._text[self._at]
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._class()
        if char == "\\":
            start = self._at
            self._escape(in_class=False)
            escaped = self._text[start + 1]
            return _UNICODE_CLASS if escaped in "pP" else _CLASS
        if char in "*+?" or _COUNT.match(self._text, self._at):
            raise _RefusedError(f'"{char}" has nothing to repeat')
        self._at += 1
        return _CLASS if char == "." else _CHARACTER

    def _group(self, depth: int) -> _Size:
        self._at += 1
        if self._text[self._at : self._at + 1] == "?":
            match = _GROUP.match(self._text, self._at)
            if match is None:
                raise _RefusedError(self._group_refusal())
            if match[1]:
                if match[1] in self._names:
                    raise _RefusedError(f'two groups are named "{match[1]}"')
                self._names.add(match[1])
            self._at = match.end()
            if match[3]:
                return _FLAGS
        size = self._alternatives(depth + 1)
        if self._at >= len(self._text):
            raise _RefusedError('a "(" is never closed')
        self._at += 1
        return size

    def _group_refusal(self) -> str:
        start = self._text[self._at - 1 : self._at + 3]
        for prefix, name in _REFUSED_GROUPS.items():
            if start.startswith(prefix):
                return f'RE2 has no {name} ("{prefix}")'
        return f'"{start}" begins no group'

    def _class(self) -> _Size:
        text, start, self._at = self._text, self._at, self._at + 1
        if text[self._at : self._at + 1] == "^":
            self._at += 1
        first = True
        while self._at < len(text) and (text[self._at] != "]" or first):
            if text[self._at] == "-" and not first and text[self._at + 1 : self._at + 2] != "]":
                raise _RefusedError('a "-" inside [] stands first, last, in a range, or as "\\-"')
            first = False
            if posix := _POSIX.match(text, self._at):
                self._at = posix.end()
                continue
            if text.startswith("[:", self._at):
                raise _RefusedError("an unknown class of characters after [:")
            self._range()
        if self._at >= len(text):
            raise _RefusedError('a "[" is never closed')
        self._at += 1
        inside = text[start : self._at]
        return _UNICODE_CLASS if "\\p" in inside.lower() else _Size(1, 64 + 8 * len(inside))

    def _range(self) -> None:
        low = self._member()
        if self._text[self._at : self._at + 1] != "-" or self._text[self._at + 1 :][:1] in (
            "]",
            "",
        ):
            return
        self._at += 1
        high = self._member()
        if low is None or high is None or low > high:
            raise _RefusedError("a range inside [] runs backwards or has no end")

    def _member(self) -> int | None:
        """One character of a class: its code, None for a class escape."""
        if self._text[self._at] == "\\":
            return self._escape(in_class=True)
        self._at += 1
        return ord(self._text[self._at - 1])

    def _escape(self, *, in_class: bool) -> int | None:
        """Takes an escape; its character's code if it means one and that is plain."""
        self._at += 1
        char = self._text[self._at : self._at + 1]
        if char in _LITERAL_ESCAPES and char:
            self._at += 1
            return ord({"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}.get(char, char))
        if match := _HEX.match(self._text, self._at):
            self._at = match.end()
            code = int(match[1] or match[0][1:], 16)
            if code > sys.maxunicode:
                raise _RefusedError(f'"\\{match[0]}" is no character')
            return code
        if match := _UNICODE.match(self._text, self._at):
            name = match[1] or match[2]
            if name not in _SCRIPTS and not _CATEGORIES.fullmatch(name):
                raise _RefusedError(f'"\\{match[0]}" is no class of characters that is known')
            self._at = match.end()
            return None
        if char and (char in _CLASS_ESCAPES or (char in _EMPTY_ESCAPES and not in_class)):
            self._at += 1
            return None
        if char.isdigit():
            raise _RefusedError(f'RE2 has no backreferences ("\\{char}")')
        raise _RefusedError(f'"\\{char}" is no escape of RE2')
