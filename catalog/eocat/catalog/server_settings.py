"""The settings of the embedded server, from this machine's memory (SETUP section 6)."""

import os
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
GIB: Final = 1 << 30


def format_settings(sockets: Path, port: int) -> str:
    """The text of eocat.conf. sockets: folder of the Unix socket."""
    memory = memory_bytes()
    folder = str(sockets).replace('"', '""').replace("'", "''")
    settings = {
        "listen_addresses": "''",
        "unix_socket_directories": f"'\"{folder}\"'",  # a list: inner quotes keep a space
        "unix_socket_permissions": "0700",
        "port": port,
        "shared_buffers": f"{min(memory // 4, 2 * GIB) // MIB}MB",
        "effective_cache_size": f"{memory // 2 // MIB}MB",
        "maintenance_work_mem": f"{min(memory // 8, 1 * GIB) // MIB}MB",  # beyond, an HNSW build is 5× slower
        "work_mem": "32MB",
        "max_wal_size": "4GB",  # bulk loads, fewer checkpoints
        "max_locks_per_transaction": 256,  # every collection is a partition with a dozen indexes
        "jit": "off",  # compiling takes longer than pgSTAC's queries
        "random_page_cost": 1.1,
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "log_checkpoints": "off",
        "dynamic_shared_memory_type": "mmap"
        if shared_memory_bytes() < GIB
        else "posix",  # containers have 64 MB
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    return "\n".join(
        ["# Written by eocat at every start; use ALTER SYSTEM for your own settings.", *lines, ""]
    )


def memory_bytes() -> int:
    """Memory of this machine, or of this container if its limit is lower."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    given = limit.read_text().strip() if limit.is_file() else "max"
    return memory if given == "max" else min(memory, int(given))


def shared_memory_bytes() -> int:
    """Size of /dev/shm, which parallel index builds live in; 0 if there is none."""
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108
    except OSError:
        return 0
    return found.f_frsize * found.f_blocks
