"""`python -m simulate` is `simulate`."""

from simulator.cli import main

main()
