"""Classes of lake area, for reports of the data and for scores."""

import numpy as np
import numpy.typing as npt

SIZES_KM2 = ("under_0.0054km2", "0.0054-0.01km2", "0.01-0.05km2", "0.05-0.1km2", "0.1-1km2", "over_1km2")
EDGES_KM2 = np.array([0.0054, 0.01, 0.05, 0.1, np.nextafter(1.0, 2.0)])
"""lower bounds of all classes but the first; 0.0054 km2 are 6 pixels of Landsat, exactly 1 km2 belongs to 0.1-1km2"""


def size_of(area_km2: npt.ArrayLike) -> npt.NDArray[np.object_]:
    """Names of the classes of areas in km2."""
    names: npt.NDArray[np.object_] = np.array(SIZES_KM2, dtype=object)
    return names[np.searchsorted(EDGES_KM2, np.asarray(area_km2, dtype=np.float64), side="right")]
