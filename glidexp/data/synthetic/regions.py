"""What differs between regions and between sensors: palettes, lake and glacier shapes, sun and season, radiometry.

Reflectances are (red, green, blue, near infrared), 0-1, of flat ground in the sun. The numbers are a reading of what
scenes of these places look like, not measurements.
"""

from dataclasses import dataclass

Colour = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One mountain region: where it is on the map and how it looks."""

    epsg: int
    """UTM zone of its scenes"""
    northing_m: float
    """northing of its southernmost scenes"""
    sun_elevation_deg: tuple[float, float]
    sun_azimuth_deg: tuple[float, float]
    """clockwise from north, where the light comes from"""
    months: tuple[int, ...]
    relief: float
    """steepness of the terrain, 1 is alpine"""
    ice_share: tuple[float, float]
    ice_thickness: float
    debris: float
    """share of the ablation zone under debris, 0-1"""
    snow_line: tuple[float, float]
    """relative height above the equilibrium line"""
    vegetation_line: float
    """relative height below the equilibrium line"""
    rock: tuple[Colour, Colour]
    moraine: Colour
    vegetation: tuple[Colour, Colour]
    ice: Colour
    haze: tuple[float, float]
    lake_turbidity: tuple[float, float]
    """parameters a, b of the Beta distribution of turbidity"""
    lake_irregularity: float
    """0 compact, 1 ragged"""
    lake_elongation: tuple[float, float]
    frozen_share: float


REGIONS: dict[str, Region] = {
    "himalaya": Region(
        epsg=32645, northing_m=3_000_000, sun_elevation_deg=(36, 52), sun_azimuth_deg=(140, 165), months=(9, 10, 11),
        relief=1.15, ice_share=(0.16, 0.28), ice_thickness=0.020, debris=0.8, snow_line=(0.04, 0.16),
        vegetation_line=0.22, rock=((0.262, 0.230, 0.188, 0.304), (0.180, 0.170, 0.158, 0.209)),
        moraine=(0.240, 0.230, 0.210, 0.264), vegetation=((0.062, 0.098, 0.045, 0.230), (0.130, 0.148, 0.080, 0.260)),
        ice=(0.50, 0.57, 0.64, 0.350), haze=(0.0, 0.35),
        lake_turbidity=(1.3, 1.2), lake_irregularity=0.45, lake_elongation=(1.2, 2.6), frozen_share=0.06,
    ),
    "andes": Region(
        epsg=32718, northing_m=8_700_000, sun_elevation_deg=(50, 64), sun_azimuth_deg=(45, 75), months=(5, 6, 7, 8),
        relief=1.0, ice_share=(0.10, 0.20), ice_thickness=0.014, debris=0.25, snow_line=(0.02, 0.10),
        vegetation_line=0.20, rock=((0.285, 0.232, 0.188, 0.331), (0.212, 0.195, 0.180, 0.246)),
        moraine=(0.272, 0.255, 0.228, 0.299), vegetation=((0.165, 0.175, 0.092, 0.250), (0.075, 0.115, 0.052, 0.240)),
        ice=(0.60, 0.65, 0.68, 0.420), haze=(0.0, 0.3),
        lake_turbidity=(0.9, 1.6), lake_irregularity=0.30, lake_elongation=(1.0, 1.9), frozen_share=0.0,
    ),
    "greenland": Region(
        epsg=32622, northing_m=7_300_000, sun_elevation_deg=(30, 42), sun_azimuth_deg=(160, 190), months=(7, 8),
        relief=0.5, ice_share=(0.24, 0.36), ice_thickness=0.045, debris=0.08, snow_line=(0.10, 0.25),
        vegetation_line=0.10, rock=((0.195, 0.184, 0.168, 0.226), (0.152, 0.146, 0.138, 0.176)),
        moraine=(0.257, 0.243, 0.223, 0.283), vegetation=((0.100, 0.126, 0.070, 0.220), (0.072, 0.108, 0.052, 0.210)),
        ice=(0.52, 0.60, 0.66, 0.364), haze=(0.1, 0.5),
        lake_turbidity=(1.0, 1.5), lake_irregularity=0.80, lake_elongation=(1.2, 3.2), frozen_share=0.08,
    ),
    "alaska": Region(
        epsg=32606, northing_m=6_700_000, sun_elevation_deg=(32, 46), sun_azimuth_deg=(155, 175), months=(7, 8, 9),
        relief=0.9, ice_share=(0.20, 0.32), ice_thickness=0.034, debris=0.4, snow_line=(0.06, 0.20),
        vegetation_line=0.12, rock=((0.162, 0.155, 0.149, 0.188), (0.209, 0.189, 0.162, 0.242)),
        moraine=(0.203, 0.203, 0.196, 0.223), vegetation=((0.054, 0.095, 0.041, 0.280), (0.101, 0.128, 0.061, 0.270)),
        ice=(0.50, 0.58, 0.66, 0.350), haze=(0.15, 0.6),
        lake_turbidity=(2.0, 1.1), lake_irregularity=0.50, lake_elongation=(1.3, 2.8), frozen_share=0.03,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Radiometry:
    """How a sensor turns reflectance into 16-bit numbers: point spread, gain and offset, noise, quantising."""

    psf_sigma_px: float
    gain: Colour
    """digital numbers a unit of reflectance"""
    offset: float
    top: int
    """largest digital number"""
    step: int
    """digital numbers between two levels of the quantiser"""
    shot: float
    """noise variance a digital number of signal"""
    read: float
    """standard deviation of the signal-free noise, digital numbers"""
    wedge: bool = False
    """every third scene ends at the slanted edge of the swath, nodata beyond"""
    scene_scale: float = 1.0
    """side of its scenes relative to dataset.synthetic.scene_px"""


RADIOMETRY: dict[str, Radiometry] = {
    "worldview2": Radiometry(
        psf_sigma_px=0.62, gain=(3900, 4100, 3900, 3600), offset=60, top=2047, step=1, shot=0.12, read=2.0, wedge=True
    ),
    "gaofen2": Radiometry(
        psf_sigma_px=0.70, gain=(1850, 1900, 1900, 1800), offset=36, top=1023, step=1, shot=0.10, read=2.5
    ),
    "sentinel2": Radiometry(
        psf_sigma_px=0.58, gain=(10000, 10000, 10000, 10000), offset=0, top=16000, step=4, shot=0.35, read=18.0,
        scene_scale=1.5,
    ),
    "landsat8": Radiometry(
        psf_sigma_px=0.55, gain=(50000, 50000, 50000, 50000), offset=5000, top=65535, step=4, shot=0.6, read=60.0,
        wedge=True,
    ),
}  # fmt: skip
