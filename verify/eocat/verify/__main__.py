"""`python -m eocat.verify`: the verifier alone, with only its own source root on the path."""

from .cli import app
from .terminal import run

if __name__ == "__main__":
    run(app)
