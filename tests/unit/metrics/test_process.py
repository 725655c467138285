"""What a process uses, as every client of Prometheus names it."""

from mesh.metrics.exposition import text
from mesh.metrics.process import Usage, usage


def test_what_is_known_is_told() -> None:
    found = text(usage(Usage(cpu_seconds=1.25, resident_bytes=4096, open_files=9)))
    assert found.splitlines()[2::3] == [
        "process_cpu_seconds_total 1.25",
        "process_resident_memory_bytes 4096",
        "process_open_fds 9",
    ]
    assert "process_open_fds" not in text(usage(Usage(cpu_seconds=1.25)))
