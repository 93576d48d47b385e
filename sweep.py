"""Runs every combination of the given settings: python sweep.py backbone=resnet18,mobilenetv3 seed=0,1."""

import sys

from glidexp.cli import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
