# The image of mesh: every command, and Envoy. `docker build -t mesh .`
#
# It builds with the classic builder and with BuildKit (no heredoc, no RUN --mount, no COPY --chmod
# or --link, no syntax line). BASE needs Python 3.11 with venv, and nothing else; a machine without
# an image registry makes one by `make images`.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
# 1: only the wheels in .tools/wheels are installed, and no index is asked.
ARG NO_INDEX=0
COPY tools/images/runtime.lock tools/images/build.lock .tools/wheel[s] /wheels/
# The runtime venv holds no pip: it is driven from another one, which stays behind in this stage.
RUN cd /wheels \
 && python3 -m venv /opt/build && python3 -m venv --without-pip /opt/mesh \
 && if [ "$NO_INDEX" = 1 ]; then set -- --no-index; fi \
 && set -- --quiet --no-cache-dir --disable-pip-version-check --find-links . --require-hashes "$@" \
 && /opt/build/bin/pip install "$@" -r build.lock \
 && /opt/build/bin/pip --python /opt/mesh/bin/python install "$@" -r runtime.lock \
 && echo /opt/app >"$(echo /opt/mesh/lib/python3.*/site-packages)/app.pth" \
 && rm -rf /wheels

# A stage of its own: an edit of the source rebuilds only from here on.
FROM dependencies AS application
COPY pyproject.toml README.md LICENSE /src/
COPY schemas /src/schemas
COPY policies/shop /src/policies/shop
COPY mesh /src/mesh
RUN /opt/build/bin/pip --disable-pip-version-check wheel --quiet --no-index --no-deps \
      --no-build-isolation --wheel-dir /dist /src \
 && /opt/build/bin/pip --disable-pip-version-check --python /opt/mesh/bin/python install --quiet \
      --no-index --no-deps --target /opt/app /dist/*.whl

FROM ${BASE}
# 1: with the git program, for `mesh sync`; a base that has it needs no network for this.
ARG GIT=0
RUN useradd --system --uid 10001 --home-dir /var/lib/mesh --shell /usr/sbin/nologin mesh \
 && install --directory --owner mesh --group mesh --mode 0700 /var/lib/mesh \
 && if [ "$GIT" = 1 ] && ! command -v git >/dev/null; then apt-get update --quiet=2 \
 && apt-get install --quiet=2 --yes --no-install-recommends git openssh-client \
 && rm -rf /var/lib/apt/lists/*; fi
ENV PATH=/opt/app/bin:/opt/mesh/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MESH_STATE=/var/lib/mesh
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mesh" \
      org.opencontainers.image.description="A service mesh without Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=dependencies /opt/mesh /opt/mesh
COPY --from=application /opt/app /opt/app
COPY tools/images/keep /usr/local/bin/mesh-keep
USER 10001:10001
WORKDIR /var/lib/mesh
# Plain Python, no shell, and nothing of the command line loaded: 30 ms of CPU.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=2 \
  CMD ["python3", "-m", "mesh.cli.health"]
ENTRYPOINT ["mesh"]
