"""Trains one network and scores it: python train.py [GROUP=OPTION ...] [KEY=VALUE ...]. --help lists everything."""

import sys

from glidexp.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
