from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.sidecar.ports import Ready
from mesh.sidecar.run import variables


def test_a_command_is_told_its_ways_out() -> None:
    ready = Ready(
        id="one",
        service=ServiceName("shop", "web"),
        inbound=None,
        outbound=Address("127.0.0.1", 15001),
        upstreams={
            ServiceName("shop", "gift-ledger"): Address("127.0.0.1", 41003),
            ServiceName("bank", "ledger"): Address("::1", 41004),
        },
    )
    assert variables(ready) == {
        "MESH_OUTBOUND": "127.0.0.1:15001",
        "http_proxy": "http://127.0.0.1:15001",
        "no_proxy": "localhost,127.0.0.1,::1",
        "MESH_UPSTREAM_GIFT_LEDGER_SHOP": "127.0.0.1:41003",
        "MESH_UPSTREAM_GIFT_LEDGER": "127.0.0.1:41003",
        "MESH_UPSTREAM_LEDGER_BANK": "[::1]:41004",
    }
