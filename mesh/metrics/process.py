"""What a process uses, under the names that every Prometheus client has for it."""

from dataclasses import dataclass

from mesh.metrics.family import Family, Sample, counter, gauge


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """User and system time since the start; what the system does not tell is None."""

    cpu_seconds: float
    resident_bytes: int | None = None
    open_files: int | None = None


def usage(found: Usage) -> tuple[Family, ...]:
    """The families of one process."""
    return (
        counter(
            "process_cpu_seconds_total",
            "User and system time of this process.",
            Sample(found.cpu_seconds),
        ),
        gauge(
            "process_resident_memory_bytes",
            "Memory of this process, shared pages included.",
            *_known(found.resident_bytes),
        ),
        gauge("process_open_fds", "Open files and sockets.", *_known(found.open_files)),
    )


def _known(value: int | None) -> tuple[Sample, ...]:
    return () if value is None else (Sample(value),)
