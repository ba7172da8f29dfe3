"""`python -m hqdata`."""

from hqdata.cli import main

if __name__ == "__main__":
    main()
