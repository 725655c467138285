"""Issuer over the certificate authority's service: joined by a token, renewed by what one holds.

`wire` is one question over HTTPS and the words for each way to fail, `learned` the file of the
authority's roots, `client` the `Issuer` made of them.
"""

from mesh.adapters.ca_client.client import ServiceIssuer, ServiceSettings

__all__ = ["ServiceIssuer", "ServiceSettings"]
