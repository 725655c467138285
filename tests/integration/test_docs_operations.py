"""docs/operations.md starts real etcd and Consul, and the shop on them, as it says."""

import shutil

import pytest

from tests.support.doc_blocks import ROOT, blocks, differences
from tests.support.servers import free_ports, require

PAGE = ROOT / "docs" / "operations.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page needs curl; install it")
def test_the_shop_runs_on_etcd_and_consul_as_the_page_says() -> None:
    require("etcd")
    require("consul")
    written = ["2379", "2380", "8500", "9001", "9002", "9003", "15001"]
    ports = dict(zip(written, map(str, free_ports(len(written))), strict=True))
    # Consul's other ports have no part in the page; its host may have another one running.
    names = ("dns", "serf-lan", "serf-wan", "server", "grpc")
    others = zip(names, free_ports(len(names)), strict=True)
    flags = " ".join(f"-{name}-port={port}" for name, port in others)
    words = {
        "~/mesh": str(ROOT),
        "--service web 2>": f"--service web --outbound 127.0.0.1:{ports['15001']} 2>",
        "agent -dev": f"agent -dev -http-port={ports['8500']} -disable-host-node-id {flags}",
        "--data-dir etcd-data": "--data-dir etcd-data --unsafe-no-fsync",
    }
    assert "\n\n".join(differences(blocks(PAGE), words | ports)) == ""
