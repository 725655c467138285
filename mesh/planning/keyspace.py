"""The store's layout: the only module that builds or reads a key.

head                               the newest revision's record: the one commit point
head/enclosed                      what that commit wrote, if it is small (`enclosure`)
revisions/<n>                      the same record, kept as history
chunks/<sha256>                    a part of a manifest, by namespace and kind
objects/<sha256>                   a policy's canonical JSON
instances/<ns>/<service>/<id>/record   a registered instance
instances/<ns>/<service>/<id>/alive    under its lease; gone: silent, not deregistered
sidecars/<id>/status               what a sidecar reports
sidecars/<id>/alive                under its lease
trust/bundle                       the trust domain and its roots
ca/status                          the certificate authority's service, as it says itself
ca/alive                           under its lease
tokens/<sha256>                    a join token's limits, by the token's digest
sync/<source>/status               what the sync of a git source reports
sync/<source>/leader               under its lease: the one sync that works
sync/<source>/nudge                written by who knows of a new commit and does not lead
collection                         written with every batch that the garbage collection deletes
"""

from mesh.model.identity import ServiceName

HEAD = "head"
ENCLOSED = "head/enclosed"  # whoever watches head sees it as well
TRUST_BUNDLE = "trust/bundle"
CA = "ca/"
CA_STATUS = "ca/status"
CA_ALIVE = "ca/alive"
COLLECTION = "collection"
REVISIONS = "revisions/"
CHUNKS = "chunks/"
OBJECTS = "objects/"
INSTANCES = "instances/"
SIDECARS = "sidecars/"
SYNC = "sync/"
TOKENS = "tokens/"

RECORD = "record"
STATUS = "status"
ALIVE = "alive"
LEADER = "leader"
NUDGE = "nudge"


def revision(number: int) -> str:
    """The key of a revision's record; keys sort as numbers do."""
    return f"{REVISIONS}{number:010d}"


def chunk(digest: str) -> str:
    """The key of a part of a manifest."""
    return CHUNKS + digest


def policy(digest: str) -> str:
    """The key of a policy's canonical JSON."""
    return OBJECTS + digest


def instances(service: ServiceName) -> str:
    """The prefix of all that is registered as `service`."""
    return f"{INSTANCES}{service.namespace}/{service.name}/"


def instance(service: ServiceName, id: str, part: str) -> str:
    """The key of an instance's `RECORD` or `ALIVE`."""
    return f"{instances(service)}{id}/{part}"


def parse_instance(key: str) -> tuple[ServiceName, str, str] | None:
    """The service, the id and the part of a key that `instance` built; None for any other."""
    match key.removeprefix(INSTANCES).split("/") if key.startswith(INSTANCES) else []:
        case [namespace, name, id, part]:
            return ServiceName(namespace, name), id, part
        case _:
            return None


def token(digest: str) -> str:
    """The key of a join token's record."""
    return TOKENS + digest


def sidecar(id: str, part: str) -> str:
    """The key of a sidecar's `STATUS` or `ALIVE`."""
    return f"{SIDECARS}{id}/{part}"


def sync(source: str, part: str) -> str:
    """The key of a git source's `STATUS`, `LEADER` or `NUDGE`; its name may contain slashes."""
    return f"{SYNC}{source}/{part}"
