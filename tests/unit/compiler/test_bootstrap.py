"""What an Envoy starts from. Envoy itself validates it in the golden tests."""

from mesh.compiler.bootstrap import bootstrap

FOUND = bootstrap(
    node_id="h1-default-web-1",
    cluster="default/web",
    ads_socket="/s/ads.sock",
    admin_socket="/s/admin.sock",
)


def test_equal_arguments_give_an_equal_file() -> None:
    again = bootstrap(
        node_id="h1-default-web-1",
        cluster="default/web",
        ads_socket="/s/ads.sock",
        admin_socket="/s/admin.sock",
    )
    assert again == FOUND


def test_the_admin_interface_is_a_private_socket() -> None:
    assert FOUND["admin"] == {"address": {"pipe": {"path": "/s/admin.sock", "mode": 0o600}}}


def test_everything_comes_by_delta_ads_and_reconnects_soon() -> None:
    ads = FOUND["dynamic_resources"]["ads_config"]
    assert ads["api_type"] == "DELTA_GRPC"
    (service,) = ads["grpc_services"]
    backoff = service["envoy_grpc"]["retry_policy"]["retry_back_off"]
    assert backoff == {"base_interval": "0.05s", "max_interval": "0.5s"}
    assert "timeout" not in service, "it would end the stream"


def test_a_frozen_agent_is_left() -> None:
    (cluster,) = FOUND["static_resources"]["clusters"]
    options = cluster["typed_extension_protocol_options"]
    (http,) = options.values()
    keepalive = http["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"]
    assert keepalive == {"interval": "2s", "timeout": "1s"}


def test_load_is_bounded() -> None:
    monitors = [each["name"] for each in FOUND["overload_manager"]["resource_monitors"]]
    assert monitors == [
        "envoy.resource_monitors.fixed_heap",
        "envoy.resource_monitors.global_downstream_max_connections",
    ]


def test_no_pattern_of_statistics_is_compared_for_each_request() -> None:
    patterns = FOUND["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    assert not [each for each in patterns if each.get("prefix", "").endswith(".")]
