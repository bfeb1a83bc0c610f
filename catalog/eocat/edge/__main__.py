"""`python -m eocat.edge` is the command `eocat`."""

from .main import main

if __name__ == "__main__":
    main()
