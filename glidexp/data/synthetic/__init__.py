"""The embedded scene generator: `generate` makes the data, `contact_sheet` shows it, `CLASSES` names its truth codes."""

from glidexp.data.synthetic.generate import generate
from glidexp.data.synthetic.sheet import contact_sheet
from glidexp.data.synthetic.surface import CLASSES

__all__ = ["CLASSES", "contact_sheet", "generate"]
