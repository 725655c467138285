"""What outlives a stream."""

from mesh.model.snapshot import ResourceType
from mesh.xds.publisher import Publisher
from tests.support.model_envoy import resource, snapshot

REFERENCE = (ResourceType.ROUTE, "web")


def test_generations_count_publishes() -> None:
    publisher = Publisher()
    assert [publisher.publish(snapshot()) for _ in range(3)] == [1, 2, 3]
    assert publisher.outcome.generation == 0
    publisher.conclude([])
    assert publisher.outcome.generation == 3


def test_a_refusal_is_of_one_version() -> None:
    publisher = Publisher()
    publisher.refuse(resource(*REFERENCE), "no")
    assert publisher.refusal(resource(*REFERENCE)) == "no"
    assert publisher.refusal(resource(*REFERENCE, edition=1)) is None
    publisher.pardon()
    assert not publisher.has_refusals


def test_refusals_are_bounded() -> None:
    publisher = Publisher()
    for edition in range(2000):
        publisher.refuse(resource(*REFERENCE, edition=edition), "no")
    assert publisher.refusal(resource(*REFERENCE)) is None
    assert publisher.refusal(resource(*REFERENCE, edition=1999)) == "no"


def test_only_the_version_in_force_is_kept() -> None:
    publisher = Publisher()
    old, new = resource(*REFERENCE), resource(*REFERENCE, edition=1)
    publisher.remember(old)
    publisher.remember(new)
    publisher.keep_only(REFERENCE, old.version)
    assert publisher.sent(REFERENCE, old.version) == old
    assert publisher.sent(REFERENCE, new.version) is None
    publisher.keep_only(REFERENCE, None)
    assert publisher.sent(REFERENCE, old.version) is None
