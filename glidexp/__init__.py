"""Ablation and transfer studies for glacial-lake segmentation."""

__version__ = "0.1.0"
