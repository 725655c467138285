"""Who may finish a handshake with a TCP service: its access rules, as TLS sees them.

Network RBAC decides at the first byte that a client sends. Many databases speak first, so a client
that is refused would still get their greeting, and a connection of theirs. A TCP service therefore
refuses by certificate already, by a validation context of its own (SDS: a change holds for the next
connection). Its RBAC stays behind this one and gives the refusals of sessions that TLS resumes or
that began before a change their names.

A validation context can only say who is welcome, and a deny rule takes away from that: names minus
names, as a pattern.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mesh.compiler.view import Inbound
from mesh.model.identity import Identity, ServiceName
from mesh.model.policy import AccessRule, Action, Caller, Default

_EVERYBODY: Final = None
_Whom = Caller | None


def welcome(trust_domain: str, inbound: Inbound) -> list[Mapping[str, Any]]:
    """Matchers of the SPIFFE IDs that may connect (`match_typed_subject_alt_names`).

    Never empty: where nobody may, one that no certificate fulfils.
    """
    rules = [rule for policy, _ in inbound.access for rule in policy.rules]
    denied = set(_whom(rules, Action.DENY))
    allowed: set[_Whom] = {_EVERYBODY}
    if inbound.access_default is Default.DENY:
        allowed = set(_whom(rules, Action.ALLOW))
    found = [_matcher(trust_domain, whom, denied) for whom in sorted(allowed, key=_order)]
    matchers = [each for each in found if each is not None] or [{"exact": "nobody"}]
    return [{"san_type": "URI", "matcher": each} for each in matchers]


def _whom(rules: Iterable[AccessRule], action: Action) -> Iterator[_Whom]:
    """Whom rules of one action are about. Bytes have no operations: an allow rule that asks for
    some never holds, a deny rule always.
    """
    for rule in rules:
        if rule.action is action and not (rule.operations and action is Action.ALLOW):
            yield from rule.callers or (_EVERYBODY,)


def _order(whom: _Whom) -> tuple[str, str]:
    return ("", "") if whom is None else (whom.namespace, whom.service or "")


def _matcher(trust_domain: str, whom: _Whom, denied: set[_Whom]) -> Mapping[str, Any] | None:
    """One kind of callers without those that are denied; None if nobody is left."""
    if _EVERYBODY in denied:
        return None
    if whom is None:
        prefix = f"spiffe://{trust_domain}/ns/"
        return _except(prefix, {_below(each) for each in denied if each is not None})
    if Caller(namespace=whom.namespace) in denied or whom in denied:
        return None
    if whom.service is not None:
        name = ServiceName(whom.namespace, whom.service)
        return {"exact": Identity(trust_domain, name).uri}
    prefix = f"spiffe://{trust_domain}/ns/{whom.namespace}/svc/"
    services = {each.service for each in denied if each and each.namespace == whom.namespace}
    return _except(prefix, {name for name in services if name is not None})


def _below(caller: Caller) -> str:
    """What follows `/ns/` in the caller's IDs; ends with a slash for a whole namespace."""
    return f"{caller.namespace}/svc/{caller.service or ''}"


def _except(prefix: str, words: set[str]) -> Mapping[str, Any]:
    """What begins with `prefix` and does not go on with one of `words`."""
    if not words:
        return {"prefix": prefix}
    return {"safe_regex": {"regex": re.escape(prefix) + _other_than(words)}}


def _other_than(words: set[str]) -> str:
    """A pattern of every text but `words` (and all that begins with one that ends with a slash).

    RE2 has no negative look-ahead: the text leaves the tree of the words at some letter.
    """
    letters = sorted({word[0] for word in words if word})
    ways = [] if "" in words else [""]
    ways.append(f"[^{''.join(map(re.escape, letters))}].*" if letters else ".+")
    for letter in letters:
        rest = {word[1:] for word in words if word.startswith(letter)}
        if not (letter == "/" and "" in rest):
            ways.append(re.escape(letter) + _other_than(rest))
    return f"(?:{'|'.join(ways)})"
