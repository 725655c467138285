"""Views by hand, for the compiler's unit tests: a caller `default/web` of a service `api`."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from mesh.compiler.view import Destination, Route, Share, View, VirtualService
from mesh.diagnostics import Position
from mesh.model.catalog import Endpoint, Health
from mesh.model.identity import ServiceName
from mesh.model.placement import Placement
from mesh.model.policy import Address, HTTPMatch, Kind, Protocol, Target

HERE = Position("policies/api.yaml", 3)


def service(name: str) -> Target:
    """A Service of the default namespace."""
    return Target(Kind.SERVICE, "default", name)


def external(name: str) -> Target:
    """An ExternalService of the default namespace."""
    return Target(Kind.EXTERNAL_SERVICE, "default", name)


def endpoint(port: int, health: Health = Health.HEALTHY, address: str = "192.0.2.1") -> Endpoint:
    """An instance, named after its port."""
    return Endpoint(
        id=f"i{port}-{health}",
        service=ServiceName("default", "api"),
        address=address,
        port=port,
        health=health,
    )


def destination(target: Target, **settings: Any) -> Destination:
    """A destination: in the mesh with one endpoint, or outside with one address."""
    if target.kind is Kind.SERVICE:
        where: dict[str, Any] = {
            "peer": f"spiffe://mesh.local/ns/{target.namespace}/svc/{target.name}",
            "endpoints": (endpoint(4001),),
        }
    else:
        where = {"peer": None, "addresses": (Address("203.0.113.5", 443),)}
    return Destination(
        **{"target": target, "protocol": Protocol.HTTP, "sources": (HERE,), **where, **settings}
    )


def share(target: Target | None, weight: int = 1, **settings: Any) -> Share:
    """A backend's part of a route."""
    return Share(destination=target, weight=weight, **settings)


def route(*shares: Share, **settings: Any) -> Route:
    """A route for everything."""
    return Route(**{"match": HTTPMatch(), "shares": shares, "sources": (HERE,), **settings})


def view(
    *routes: Route, destinations: Iterable[Destination] = (), port: int = 80, **settings: Any
) -> View:
    """A view with these routes of `api`, which is a destination unless others are given."""
    known = list(destinations) or [destination(service("api"))]
    placement = Placement(
        id="web-0", service=ServiceName("default", "web"), outbound=Address("127.0.0.1", 15001)
    )
    called = VirtualService(
        target=service("api"),
        hosts=("api", "api.default", "api.default.mesh"),
        port=port,
        routes=routes,
        sources=(HERE,),
    )
    return View(
        **{
            "revision": 1,
            "trust_domain": "mesh.local",
            "placement": placement,
            "max_connection_duration": timedelta(hours=1),
            "destinations": {each.target: each for each in known},
            "services": (called,),
            **settings,
        }
    )
