"""`python -m eocat.verify`: the verifier alone, with only its own source root on the path."""

from .edge.cli import app
from .edge.terminal import run

if __name__ == "__main__":
    run(app)
