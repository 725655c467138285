"""Turn etcd's access rules on: the user `mesh`, whom its certificate names, has the keys below
`mesh/`, and nobody else has any.

etcd_auth.py ENDPOINT FOLDER            with ca.pem, root.pem and root.key in FOLDER

It does what `etcdctl user add`, `role add`, ... and `auth enable` do; what is done already stays.
"""

import sys
from pathlib import Path

import grpc
from aetcd.rpc import auth_pb2, rpc_pb2, rpc_pb2_grpc

CALL_SECONDS = 10.0
ROOT, USER = "root", "mesh"
KEYS = auth_pb2.Permission(permType=auth_pb2.Permission.READWRITE, key=b"mesh/", range_end=b"mesh0")
# Who has no password is known by the common name of a certificate.
BY_CERTIFICATE = auth_pb2.UserAddOptions(no_password=True)


def main(endpoint: str, folder: Path) -> None:
    """Make users and roles, then turn the rules on."""
    ca, cert, key = ((folder / name).read_bytes() for name in ("ca.pem", "root.pem", "root.key"))
    with grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(ca, key, cert)) as channel:
        etcd = rpc_pb2_grpc.AuthStub(channel)
        for call, request in (
            (etcd.RoleAdd, rpc_pb2.AuthRoleAddRequest(name=ROOT)),
            (etcd.RoleAdd, rpc_pb2.AuthRoleAddRequest(name=USER)),
            (
                etcd.RoleGrantPermission,
                rpc_pb2.AuthRoleGrantPermissionRequest(name=USER, perm=KEYS),
            ),
            (etcd.UserAdd, rpc_pb2.AuthUserAddRequest(name=ROOT, options=BY_CERTIFICATE)),
            (etcd.UserAdd, rpc_pb2.AuthUserAddRequest(name=USER, options=BY_CERTIFICATE)),
            (etcd.UserGrantRole, rpc_pb2.AuthUserGrantRoleRequest(user=ROOT, role=ROOT)),
            (etcd.UserGrantRole, rpc_pb2.AuthUserGrantRoleRequest(user=USER, role=USER)),
            (etcd.AuthEnable, rpc_pb2.AuthEnableRequest()),
        ):
            try:
                call(request, timeout=CALL_SECONDS, wait_for_ready=True)
            except grpc.RpcError as error:
                if "already exists" not in str(error.details()):
                    raise


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
