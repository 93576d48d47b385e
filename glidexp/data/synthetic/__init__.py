"""The embedded scene generator: `generate` makes data, `contact_sheet` shows it, `CLASSES` names the truth codes."""

from glidexp.data.synthetic.covers import CLASSES
from glidexp.data.synthetic.generate import generate
from glidexp.data.synthetic.sheet import contact_sheet

__all__ = ["CLASSES", "contact_sheet", "generate"]
