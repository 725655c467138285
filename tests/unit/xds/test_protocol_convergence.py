"""The protocol against a model of Envoy, under any interleaving of what may happen."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mesh.model.snapshot import Resource, ResourceType, Snapshot
from mesh.xds.messages import DeltaResponse
from mesh.xds.protocol import Session
from mesh.xds.publisher import Publisher
from tests.support.model_envoy import ModelEnvoy, is_bad, resource, snapshot

CLUSTER, ENDPOINTS = ResourceType.CLUSTER, ResourceType.ENDPOINTS
LISTENER, ROUTE = ResourceType.LISTENER, ResourceType.ROUTE
SECRET, EXTENSION = ResourceType.SECRET, ResourceType.EXTENSION

edition = st.integers(0, 2)
# One in several is refused, whatever refers to it.
badness = st.sampled_from([False] * 5 + [True])


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A closed set: every reference resolves."""
    found: dict[tuple[ResourceType, str], Resource] = {}

    def add(kind: ResourceType, name: str, names: list[tuple[ResourceType, str]]) -> None:
        if (kind, name) not in found:
            item = resource(kind, name, names, edition=draw(edition), bad=draw(badness))
            found[(kind, name)] = item

    clusters = draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4))
    for name in clusters:
        names = [(ENDPOINTS, name)]
        add(ENDPOINTS, name, [])
        if draw(st.booleans()):
            add(SECRET, "leaf", [])
            names.append((SECRET, "leaf"))
        add(CLUSTER, name, names)
    for name in draw(st.lists(st.sampled_from(["in", "out"]), unique=True)) if clusters else []:
        route = draw(st.sampled_from(["r1", "r2"]))
        used = draw(st.lists(st.sampled_from(clusters), unique=True, min_size=1))
        add(ROUTE, route, [(CLUSTER, cluster) for cluster in used])
        names = [(ROUTE, route)]
        if draw(st.booleans()):
            add(EXTENSION, "access", [])
            names.append((EXTENSION, "access"))
        add(LISTENER, name, names)
    if clusters and draw(st.booleans()):
        add(LISTENER, "tcp", [(CLUSTER, draw(st.sampled_from(clusters)))])
    return snapshot(*found.values())


class Conversation(RuleBasedStateMachine):
    """One Envoy and its agent, whose messages travel in order but at any pace."""

    def __init__(self) -> None:
        super().__init__()
        self.publisher = Publisher()
        self.is_adopted = False
        self.envoy = ModelEnvoy()
        self.answers: deque[DeltaResponse] = deque()
        self.in_flight: set[ResourceType] = set()
        self.connect()

    def connect(self) -> None:
        self.session = Session(self.publisher)
        self.answers.clear()
        self.in_flight.clear()
        self.envoy.connect()

    def send(self, responses: list[DeltaResponse]) -> None:
        for response in responses:
            assert response.type not in self.in_flight, "one response in flight per type"
            self.in_flight.add(response.type)
            self.answers.append(response)

    @rule(wanted=snapshots())
    def publish(self, wanted: Snapshot) -> None:
        self.publisher.publish(wanted)
        self.send(self.session.advance())

    @precondition(lambda self: self.envoy.outgoing)
    @rule()
    def agent_hears(self) -> None:
        request = self.envoy.outgoing.popleft()
        if request.nonce:
            self.in_flight.discard(request.type)
        self.send(self.session.receive(request))

    @precondition(lambda self: self.answers)
    @rule()
    def envoy_hears(self) -> None:
        self.envoy.handle(self.answers.popleft())

    # What Envoy applied of a refused response it does not mention on a new stream. A stream that
    # breaks before each part was sent alone leaves clusters that nobody knows of, and no names.
    @precondition(lambda self: not self.envoy.has_forgotten)
    @rule()
    def reconnect(self) -> None:
        self.connect()

    @precondition(lambda self: not self.envoy.has_forgotten)
    @rule()
    def a_new_agent_adopts(self) -> None:
        target = self.publisher.snapshot
        had_news = self.publisher.generation > 0
        self.publisher = Publisher()
        if had_news:
            self.publisher.publish(target)
        self.is_adopted = True
        self.connect()

    @rule()
    def envoy_restarts(self) -> None:
        self.envoy = ModelEnvoy()
        self.is_adopted = False
        self.connect()

    @rule()
    def listeners_have_drained(self) -> None:
        self.envoy.finish_draining()

    @rule()
    def everything_arrives(self) -> None:
        for _ in range(1000):
            if self.envoy.outgoing:
                self.agent_hears()
            elif self.answers:
                self.envoy_hears()
            elif self.is_adopted and self.envoy.give_up_waiting():
                pass  # only what an earlier agent sent can be lacking
            else:
                break
            assert not self.envoy.broken()
        else:
            raise AssertionError("they never stop talking")
        if self.publisher.generation:
            self.check_outcome()

    def check_outcome(self) -> None:
        outcome = self.publisher.outcome
        assert outcome.generation == self.publisher.generation
        rejected = {(item.type, item.name) for item in outcome.rejections}
        self.check_live(rejected)
        for rejection in outcome.rejections:
            wanted = self.publisher.snapshot.of(rejection.type)[rejection.name]
            assert self.needs_bad(wanted), "nothing is withheld without reason"
        assert not any(is_bad(item) for kind in self.envoy.live.values() for item in kind.values())
        if not rejected and not self.envoy.draining:
            for kind in (CLUSTER, LISTENER):
                assert self.envoy.live[kind] == self.publisher.snapshot.of(kind)

    def check_live(self, rejected: set[tuple[ResourceType, str]]) -> None:
        target = self.publisher.snapshot
        for kind in (CLUSTER, LISTENER):
            for name, item in target.of(kind).items():
                if (kind, name) in rejected:
                    continue
                assert self.envoy.live[kind].get(name) == item
                for reference in item.names:
                    wanted = target.of(reference[0])[reference[1]]
                    if reference not in rejected:
                        assert self.envoy.live[reference[0]].get(reference[1]) == wanted

    def needs_bad(self, item: Resource) -> bool:
        target = self.publisher.snapshot
        return is_bad(item) or any(
            self.needs_bad(target.of(kind)[name]) for kind, name in item.names
        )

    @invariant()
    def make_before_break(self) -> None:
        assert self.envoy.broken() == []

    def teardown(self) -> None:
        self.everything_arrives()
        self.envoy.finish_draining()
        self.everything_arrives()


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
