"""docs/ca.md sets the authority's service up, and a host joins, as it says."""

from tests.support.doc_blocks import ROOT, blocks, differences
from tests.support.servers import free_ports

PAGE = ROOT / "docs" / "ca.md"


def test_a_host_joins_as_the_page_says() -> None:
    words = {"8443": str(free_ports(1)[0])}
    assert "\n\n".join(differences(blocks(PAGE), words)) == ""
