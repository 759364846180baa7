"""`python -m broker` is `geomq`."""

from broker.cli import main

if __name__ == "__main__":
    main()
