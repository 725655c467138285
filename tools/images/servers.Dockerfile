# Debian's etcd, Consul, Prometheus and Redis: stand-ins of the official images for machines without
# an image registry. A server's folder is what it has below /usr/local. No ETCD_* is set: etcd
# refuses a variable beside a flag that says the same.
ARG BASE
FROM ${BASE} AS etcd
COPY etcd /usr/local
RUN useradd --system --uid 10001 etcd && install -d -o etcd -g etcd -m 0700 /var/lib/etcd
WORKDIR /var/lib/etcd
USER 10001
EXPOSE 2379 2380
CMD ["etcd"]

FROM ${BASE} AS consul
COPY consul /usr/local
RUN useradd --system --uid 10001 consul \
 && install -d -o consul -g consul -m 0700 /consul /consul/data /consul/config
USER 10001
EXPOSE 8500 8600/udp
ENTRYPOINT ["consul"]
CMD ["agent", "-dev", "-client", "0.0.0.0"]

FROM ${BASE} AS prometheus
COPY prometheus /usr/local
RUN useradd --system --uid 10001 prometheus \
 && install -d -o prometheus -g prometheus -m 0700 /prometheus
WORKDIR /prometheus
USER 10001
EXPOSE 9090
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]

FROM ${BASE} AS redis
COPY redis /usr/local
RUN ldconfig && useradd --system --uid 10001 redis \
 && install -d -o redis -g redis -m 0700 /data
WORKDIR /data
USER 10001
EXPOSE 6379
# In a container the network's own rules protect it; protected mode would refuse every neighbour.
CMD ["redis-server", "--protected-mode", "no"]
