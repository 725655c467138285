"""`AccessPolicy`: who may call what."""

from dataclasses import dataclass
from enum import StrEnum

from mesh.model.identity import ServiceName
from mesh.model.policy.reference import PolicyKey, Target
from mesh.model.policy.route import ValueMatch


class Action(StrEnum):
    """Deny beats allow; audit records and decides nothing."""

    ALLOW = "allow"
    DENY = "deny"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A service, or every service of a namespace (`service is None`)."""

    namespace: str
    service: str | None = None

    def includes(self, caller: ServiceName) -> bool:
        """Whether it means `caller`."""
        return self.namespace == caller.namespace and self.service in (None, caller.name)


class AccessPathType(StrEnum):
    """How a rule reads a path; a prefix is by path element."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is asked for: each given part must hold, the items of a part are alternatives.

    Headers are all required. Empty parts hold always.
    """

    methods: tuple[str, ...] = ()
    paths: tuple[tuple[AccessPathType, str], ...] = ()
    headers: tuple[ValueMatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """One named rule. Empty `callers`: any authenticated caller; empty `operations`: anything."""

    name: str
    action: Action
    callers: tuple[Caller, ...] = ()
    operations: tuple[Operation, ...] = ()

    def concerns(self, caller: ServiceName) -> bool:
        """Whether it is about `caller`, whatever the action and the operations."""
        return not self.callers or any(each.includes(caller) for each in self.callers)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """Who may call the targets; several policies on one target add up."""

    key: PolicyKey
    targets: tuple[Target, ...]
    rules: tuple[AccessRule, ...] = ()
