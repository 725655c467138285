"""What can go wrong, as types: each class says what its receiver can do.

MeshError
├── InputError            exit 1: what the user gave is wrong; nothing was written
│   ├── InvalidDocuments      the documents have mistakes; carries the diagnostics
│   ├── StalePlan             head moved since the plan was made: plan again
│   ├── Conflict              a compare-and-set lost its race: read again
│   ├── NotFound              the named thing does not exist
│   ├── NoSuchCommand         exit 127, as a shell: there is no program of that name
│   ├── NotExecutable         exit 126, as a shell: the program may not be run
│   ├── CertificateRefused    the CA does not sign this, or a chain is not to be used
│   ├── RefusedCommit         a git commit is not one to apply: unsigned, too large, a link in it
│   ├── HeadWentBack          the store is older than what sidecars run: a person decides
│   ├── Held                  rolled back since: the source waits for a newer commit
│   └── Drifted               somebody applied by hand to a source that follows git
├── OutsideError          exit 3: the outside world failed
│   ├── Unavailable           no answer within the deadline: try again later
│   ├── OutcomeUnknown        a commit may or may not have happened: settle it by reading
│   ├── OutOfSpace            the store or disk is full: free space first
│   ├── Denied                credentials are missing, wrong or expired
│   ├── Corrupted             what was stored is not what was written: restore it
│   ├── LeaseLost             the lease ran out: take a new one and register again
│   └── PortInUse             somebody listens there already
├── NotAccepted           exit 4: committed, but not every sidecar accepted it in time
└── UsageError            exit 64: the command line or a setting is wrong
"""

from collections.abc import Sequence
from typing import ClassVar

from mesh.diagnostics import Diagnostic


class MeshError(Exception):
    """The root of every error that mesh raises on purpose.

    `message` says what is wrong (lower case, no final period), `hint` what to do about it.
    `code` is stable and documented in docs/errors.md; `exit_code` is the process's.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(MeshError):
    """What the user gave is wrong; nothing was written."""

    code = "invalid-input"
    exit_code = 1


class InvalidDocuments(InputError):
    """The documents have mistakes, each at its place."""

    code = "invalid-documents"

    def __init__(self, diagnostics: Sequence[Diagnostic], documents: int = 0) -> None:
        super().__init__(f"{len(diagnostics)} mistakes in {documents} documents")
        self.diagnostics = tuple(diagnostics)
        self.documents = documents


class StalePlan(InputError):
    """Head moved since the plan was made; plan again."""

    code = "stale-plan"


class Conflict(InputError):
    """A compare-and-set lost its race: somebody else wrote first."""

    code = "conflict"


class NotFound(InputError):
    """The named document, revision or sidecar does not exist."""

    code = "not-found"


class NoSuchCommand(InputError):
    """There is no program of that name."""

    code = "no-such-command"
    exit_code = 127


class NotExecutable(InputError):
    """The program is there and may not be run."""

    code = "not-executable"
    exit_code = 126


class CertificateRefused(InputError):
    """The request or the certificate breaks the CA's profile; the message names the rule."""

    code = "certificate-refused"


class RefusedCommit(InputError):
    """A git commit is not one to apply: its signature, its size or what stands in it."""

    code = "refused-commit"


class HeadWentBack(InputError):
    """The store's head is older than what sidecars run: it was restored from a backup."""

    code = "head-went-back"


class Held(InputError):
    """The source was rolled back since its commit was applied: it waits for a newer one."""

    code = "held"


class Drifted(InputError):
    """Somebody applied by hand to a source that follows a git repository."""

    code = "drifted"


class OutsideError(MeshError):
    """The outside world failed: a server, a disk, a network."""

    code = "outside"
    exit_code = 3


class Unavailable(OutsideError):
    """No usable answer within the deadline; a later try may succeed."""

    code = "unavailable"


class OutcomeUnknown(OutsideError):
    """A commit timed out and may have happened: settle it by reading, never by repeating."""

    code = "outcome-unknown"


class OutOfSpace(OutsideError):
    """The store (etcd NOSPACE) or the disk is full."""

    code = "out-of-space"


class Denied(OutsideError):
    """Credentials are missing, wrong or expired."""

    code = "denied"


class Corrupted(OutsideError):
    """Stored bytes are not what was written: the store or disk is damaged."""

    code = "corrupted"


class LeaseLost(OutsideError):
    """The lease expired before it was renewed; grant a new one and write its keys again."""

    code = "lease-lost"


class PortInUse(OutsideError):
    """Somebody else listens on the address."""

    code = "port-in-use"


class NotAccepted(MeshError):
    """Committed, but not accepted by every sidecar in time, or rolled back for that."""

    code = "not-accepted"
    exit_code = 4


class UsageError(MeshError):
    """The command line or a setting is wrong."""

    code = "usage"
    exit_code = 64
