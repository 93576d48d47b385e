"""The embedded scene generator: `generate` makes data, `read_classes` knows the ground."""

from glidexp.data.synthetic.covers import CLASSES
from glidexp.data.synthetic.truth import read_classes
from glidexp.data.synthetic.world import generate

__all__ = ["CLASSES", "generate", "read_classes"]
