"""The embedded scene generator: `generate` makes data, `contact_sheet` shows it, `read_classes` knows the ground."""

from glidexp.data.synthetic.covers import CLASSES
from glidexp.data.synthetic.sheet import contact_sheet
from glidexp.data.synthetic.truth import read_classes, read_turbidity
from glidexp.data.synthetic.world import generate

__all__ = ["CLASSES", "contact_sheet", "generate", "read_classes", "read_turbidity"]
