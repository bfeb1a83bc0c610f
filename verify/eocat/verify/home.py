"""Where eocat keeps what is the user's own: keys, the trust policy, the embedded database."""

import os
from pathlib import Path


def home() -> Path:
    """EOCAT_HOME, else /var/lib/eocat for root, else the user's data folder (XDG)."""
    if chosen := os.environ.get("EOCAT_HOME"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/eocat")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "eocat"


def trust_folder() -> Path:
    return home() / "trust"


def policy_path() -> Path:
    return trust_folder() / "policy.json"
