"""The embedded scene generator: `generate` makes data, `contact_sheet` shows it, `CLASSES` names the truth codes."""

from glidexp.data.synthetic.covers import CLASSES
from glidexp.data.synthetic.sheet import contact_sheet
from glidexp.data.synthetic.world import generate

__all__ = ["CLASSES", "contact_sheet", "generate"]
