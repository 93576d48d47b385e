"""`python -m glidexp VERB`: the same as the console script."""

from glidexp.cli import main

main()
