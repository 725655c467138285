"""The configuration server of one Envoy: `xds.protocol` behind gRPC on a Unix socket.

Who may connect is decided by the file system: the folder is 0700 and the socket 0600 (gRPC's
asyncio server does not tell a peer's uid). A lock beside the socket keeps two agents apart, for
of two servers on one path the newer one silently takes it.
"""

import asyncio
import contextlib
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import grpc
import grpc.aio
import structlog
from envoy.service.discovery.v3 import discovery_pb2

from mesh.errors import Conflict, OutsideError, Unavailable, UsageError
from mesh.latest import Latest
from mesh.model.snapshot import Rejection, Resource, ResourceType, Snapshot
from mesh.ports import Acknowledged
from mesh.xds.messages import DeltaRequest, DeltaResponse
from mesh.xds.protocol import Session
from mesh.xds.publisher import Publisher

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_SOCKET_PATH_LIMIT_BYTES = 107  # sun_path, less its final NUL
_OWNER_ONLY = 0o600
_UMASK = 0o177

_OPTIONS = (
    # A snapshot's largest part is one response; it comes from our own compiler.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),
    # Envoy pings every two seconds to notice a frozen agent; by default the third ping of a
    # quiet stream is taken for abuse, and the connection is closed.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
)

_CONSTRAINT = "Proto constraint validation failed"
_DETAIL_LIMIT = 1000

_log = structlog.get_logger(__name__)

_Stream = grpc.aio.ServicerContext[DeltaRequest | None, DeltaResponse]


class AdsServer:
    """A `ConfigurationServer` at `socket`, whose folder it makes and checks.

    `run` raises UsageError where the path is longer than a socket's may be (107 bytes), Conflict
    while another agent serves there, OutsideError where the folder is not safe or not usable.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket.absolute()
        self._publisher = Publisher()
        self._news = Latest((0, 0))
        self._acknowledged = Latest(Acknowledged())
        self._nacks = 0

    def publish(self, snapshot: Snapshot) -> int:
        """Make `snapshot` what Envoy shall run; returns its generation. Never blocks."""
        generation = self._publisher.publish(snapshot)
        self._tell()
        return generation

    def offer_again(self, refused: Iterable[Rejection]) -> None:
        """Offer what these are of once more; what came of it is acknowledged anew."""
        self._publisher.offer_again(refused)
        self._tell()

    def acknowledgements(self) -> AsyncIterator[Acknowledged]:
        """The newest acknowledgement now, then after each change, newest only."""
        return self._acknowledged.changes()

    async def run(self) -> None:
        """Serve until cancelled; Envoy keeps what it has."""
        with _locked(self._socket):
            server = grpc.aio.server(options=_OPTIONS)
            method = grpc.stream_stream_rpc_method_handler(
                self._serve, request_deserializer=_decode, response_serializer=_encode
            )
            handler = grpc.method_handlers_generic_handler(
                _SERVICE, {"DeltaAggregatedResources": method}
            )
            server.add_generic_rpc_handlers((handler,))
            _bind(server, self._socket)
            try:
                await server.start()
                await server.wait_for_termination()
            finally:
                await server.stop(grace=None)

    async def _serve(self, requests: AsyncIterator[DeltaRequest | None], stream: _Stream) -> None:
        """One stream of Envoy, until it ends, breaks or is superseded by a newer one.

        An agent that was frozen meets at once all streams that Envoy gave up meanwhile: what is
        written to one of these fails, and it supersedes nobody. Headers are written first and by
        themselves for another reason, too: gRPC sends them with the first answer, and where that
        is cancelled half way it cannot end the stream any more, which Envoy would wait on for ever.
        """
        try:
            await stream.send_initial_metadata(())
        except grpc.aio.BaseError:
            return
        session = Session(self._publisher)
        self._tell()
        _log.info("envoy connected", socket=str(self._socket))
        outbox: asyncio.Queue[DeltaResponse] = asyncio.Queue()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(session, requests, outbox))
                tasks.create_task(self._follow(session, outbox))
                tasks.create_task(_write(stream, outbox))
        except* _StreamEnd:
            pass  # the usual end: Envoy closed the stream, or opened a newer one
        finally:
            _log.info("envoy disconnected", socket=str(self._socket))

    async def _listen(
        self,
        session: Session,
        requests: AsyncIterator[DeltaRequest | None],
        outbox: asyncio.Queue[DeltaResponse],
    ) -> None:
        async for request in requests:
            if request is None:
                continue
            if request.error is not None:
                self._nacks += 1
                if all(each.detail != request.error for each in self._publisher.outcome.rejections):
                    _log.warning(
                        "envoy refused configuration", type=request.type.name, detail=request.error
                    )
            self._send(session.receive(request), outbox)
        raise _StreamEnd

    async def _follow(self, session: Session, outbox: asyncio.Queue[DeltaResponse]) -> None:
        """Each publish; a newer stream ends this one."""
        async for _ in self._news.changes():
            if session.is_superseded:
                raise _StreamEnd
            self._send(session.advance(), outbox)

    def _send(self, responses: list[DeltaResponse], outbox: asyncio.Queue[DeltaResponse]) -> None:
        """Queue what the protocol says (at most one response per type is under way)."""
        for response in responses:
            outbox.put_nowait(response)
        outcome = self._publisher.outcome
        self._acknowledged.set(
            Acknowledged(
                generation=outcome.generation,
                revision=outcome.revision,
                rejections=outcome.rejections,
                nacks=self._nacks,
            )
        )

    def _tell(self) -> None:
        self._news.set((self._publisher.generation, self._publisher.stream))


class _StreamEnd(Exception):
    """The stream is over, which ends its tasks."""


async def _write(stream: _Stream, outbox: asyncio.Queue[DeltaResponse]) -> None:
    while True:
        await stream.write(await outbox.get())


# --- protobuf ---------------------------------------------------------------------------------


def _decode(data: bytes) -> DeltaRequest | None:
    """A request off the wire; None for a type that the mesh does not serve."""
    message = discovery_pb2.DeltaDiscoveryRequest.FromString(data)
    try:
        kind = ResourceType(message.type_url)
    except ValueError:
        return None
    return DeltaRequest(
        type=kind,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=_detail(message.error_detail.message) if message.HasField("error_detail") else None,
    )


def _detail(text: str) -> str:
    """Envoy's reason in one line. A message that breaks a constraint is quoted in full before
    the reason, and it may hold a private key: the quote is cut out.
    """
    _, constraint, reason = text.rpartition(_CONSTRAINT)
    lines = (constraint + reason).strip().splitlines()
    return lines[0][:_DETAIL_LIMIT] if lines else "envoy gave no reason"


def _encode(response: DeltaResponse) -> bytes:
    message = discovery_pb2.DeltaDiscoveryResponse(
        type_url=response.type,
        resources=[_resource(resource) for resource in response.resources],
        removed_resources=response.removed,
        nonce=response.nonce,
    )
    data: bytes = message.SerializeToString()
    return data


def _resource(resource: Resource) -> discovery_pb2.Resource:
    message = discovery_pb2.Resource(name=resource.name, version=resource.version)
    message.resource.type_url = resource.type
    message.resource.value = resource.body
    return message


# --- the socket -------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(socket: Path) -> Iterator[None]:
    """Hold the lock beside `socket`, in a folder that nobody else can enter."""
    size = len(os.fsencode(socket))
    if size > _SOCKET_PATH_LIMIT_BYTES:
        raise UsageError(
            f'socket path "{socket}" has {size} bytes, and at most '
            f"{_SOCKET_PATH_LIMIT_BYTES} are possible",
            hint="choose a state folder with a shorter path",
        )
    _private_folder(socket.parent)
    path = socket.with_suffix(".lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _OWNER_ONLY)
    except OSError as error:
        raise Unavailable(f'cannot open "{path}": {(error.strerror or "").lower()}') from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Conflict(f'another agent serves Envoy on "{socket}"') from error
    try:
        yield
    finally:
        os.close(descriptor)


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise Unavailable(
            f'cannot make folder "{folder}": {(error.strerror or "").lower()}'
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise OutsideError(f'"{folder}" is not a folder')
    if status.st_uid != os.geteuid():
        raise OutsideError(f'folder "{folder}" belongs to user {status.st_uid}')
    if stat.S_IMODE(status.st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise OutsideError(
            f'folder "{folder}" is open to others (mode {stat.S_IMODE(status.st_mode):04o})',
            hint=f"chmod 700 {folder}",
        )


def _bind(server: grpc.aio.Server, socket: Path) -> None:
    """Bind with no moment at which others could connect; a stale socket is replaced."""
    before = os.umask(_UMASK)
    try:
        socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{socket}")
        socket.chmod(_OWNER_ONLY)
    except (OSError, RuntimeError) as error:
        raise Unavailable(f'cannot listen on "{socket}": {error}') from error
    finally:
        os.umask(before)
