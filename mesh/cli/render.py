"""What the reading commands found, as text and as JSON from one value."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from mesh.cli import console
from mesh.cli.console import GREEN, JSON, RED, YELLOW, paint
from mesh.cli.plans import changes_json, changes_text
from mesh.cli.ready import address_text, upstreams_json
from mesh.cli.sources import followed_json, followed_text
from mesh.model.revision import Revision
from mesh.model.status import SidecarState
from mesh.operations.authority import ServedAuthority
from mesh.operations.drafting import Drafted
from mesh.operations.history import Difference
from mesh.operations.sidecars import Member
from mesh.operations.status import Status

_STATES = {
    SidecarState.IN_SYNC: GREEN,
    SidecarState.PENDING: YELLOW,
    SidecarState.REJECTED: RED,
    SidecarState.STALE: YELLOW,
}


def show_validated(result: Drafted, *, as_json: bool) -> None:
    """Print every mistake, then how many."""
    if as_json:
        console.say_json(
            {
                "documents": result.documents,
                "diagnostics": [console.diagnostic_json(item) for item in result.diagnostics],
            }
        )
        return
    for item in result.diagnostics:
        console.say(console.diagnostic_text(item))
    console.say(console.mistakes(result.diagnostics, result.documents))


def show_next_status(status: Status, *, as_json: bool) -> None:
    """Print one of many: a line of JSON, or on a terminal in place of the last."""
    if as_json:
        console.say_now(json.dumps(_status_json(status), ensure_ascii=False))
        return
    if sys.stdout.isatty():
        console.write("\x1b[H\x1b[2J")
    show_status(status, as_json=False)
    console.flush()


def show_status(status: Status, *, as_json: bool) -> None:
    """Print head and every sidecar."""
    if as_json:
        console.say_json(_status_json(status))
        return
    if status.lost:
        console.note(f"the store is out of reach, this is old news: {status.lost}")
    console.say(f"head: revision {status.head}, {console.plural(len(status.members), 'sidecar')}")
    if status.authority is not None:
        console.say(_authority_text(status.authority))
    if status.members:
        _show_members(status)
    if status.sources:
        console.say()
        for line in followed_text(status.sources):
            console.say(line)


def _show_members(status: Status) -> None:
    head = ("ID", "SERVICE", "STATE", "REVISION", "INBOUND", "OUTBOUND", "CERTIFICATE")
    lines = console.table([head, *(_member_row(item, status.head) for item in status.members)])
    for line, member in zip(lines.splitlines(), (None, *status.members), strict=True):
        if member is None:
            console.say(line)
            continue
        state = member.state(status.head)
        console.say(line.replace(f" {state} ", f" {paint(state, _STATES[state])} ", 1))
        if member.message:
            console.say(f"    {member.message}")
        if member.status.upgrade:
            console.say(f"    {member.status.upgrade}: reload it (SIGHUP)")


def show_history(revisions: Sequence[Revision], *, as_json: bool) -> None:
    """Print revisions, newest first."""
    if as_json:
        console.say_json([_revision_json(item) for item in revisions])
        return
    rows = [("REVISION", "TIME", "AUTHOR", "SOURCE", "CHANGES", "COMMIT", "MESSAGE")]
    rows += [
        (
            str(item.number),
            item.time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
            _without_mail(item.author),
            item.source,
            f"+{item.created} ~{item.updated} -{item.deleted}",
            (item.commit or "")[:12],
            item.message,
        )
        for item in revisions
    ]
    console.say(console.table(rows) if revisions else "no revision yet")


def _without_mail(author: str) -> str:
    """`Name <mail>` as `Name`; JSON has all of it."""
    name, separator, _ = author.partition(" <")
    return name if separator and author.endswith(">") else author


def show_difference(found: Difference, *, as_json: bool) -> None:
    """Print what changed between two revisions."""
    if as_json:
        console.say_json(
            {"from": found.before, "to": found.after, "changes": changes_json(found.changes)}
        )
        return
    for line in changes_text(found.changes):
        console.say(line)
    if not found.changes:
        console.say(f"revisions {found.before} and {found.after} have the same documents")


def show_documents(documents: Sequence[bytes], *, as_json: bool) -> None:
    """Print stored documents."""
    from mesh.documents.codec import to_yaml

    if as_json:
        console.say_json([json.loads(item) for item in documents])
    else:
        console.write("---\n".join(to_yaml(item) for item in documents))


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _status_json(status: Status) -> JSON:
    sidecars = [_member_json(member, status.head) for member in status.members]
    return {
        "head": status.head,
        "sidecars": sidecars,
        "sources": followed_json(status.sources),
        "authority": None if status.authority is None else _authority_json(status.authority),
        "lost": status.lost,
    }


def _authority_text(found: ServedAuthority) -> str:
    where = found.status.url.partition("?")[0]
    state = "serves" if found.is_alive else "is not there: certificates are not renewed"
    return f"certificate authority: {where} {state}"


def _authority_json(found: ServedAuthority) -> JSON:
    status = found.status
    return {
        "url": status.url,
        "alive": found.is_alive,
        "version": status.version,
        "trust_domain": status.trust_domain,
        "roots": list(status.roots),
        "not_after": {name: instant(end) for name, end in status.not_after.items()},
    }


def _member_json(member: Member, head: int) -> JSON:
    status = member.status
    expiry = status.certificate_not_after
    return {
        "id": status.id,
        "service": status.service.name,
        "namespace": status.service.namespace,
        "revision": status.revision,
        "state": member.state(head).value,
        "inbound": address_text(status.inbound),
        "outbound": address_text(status.outbound),
        "upstreams": upstreams_json(status.upstreams),
        "application": None
        if status.app is None
        else {"address": address_text(status.app), "accepting": status.is_app_accepting},
        "certificate": None if expiry is None else {"not_after": instant(expiry)},
        "message": member.message,
        "upgrade": status.upgrade,
        "sockets": status.sockets,
        "time": instant(status.time),
        "diagnostics": [console.diagnostic_json(item) for item in status.rejections],
    }


def _member_row(member: Member, head: int) -> tuple[str, ...]:
    status = member.status
    expiry = status.certificate_not_after
    return (
        status.id,
        str(status.service),
        member.state(head).value,
        str(status.revision),
        address_text(status.inbound) or "-",
        address_text(status.outbound) or "-",
        f"until {expiry.astimezone(UTC):%Y-%m-%d %H:%M}Z" if expiry else "none",
    )


def _revision_json(item: Revision) -> JSON:
    return {
        "revision": item.number,
        "parent": item.parent,
        "time": instant(item.time),
        "author": item.author,
        "message": item.message,
        "source": item.source,
        "commit": item.commit,
        "changes": {"create": item.created, "update": item.updated, "delete": item.deleted},
        "restores": item.restores,
    }
