"""What a server allows and keeps, and what a request may ask for. Nothing heavy is imported here."""

from dataclasses import dataclass, field

from glidexp.data import sensors
from glidexp.errors import ConfigError
from glidexp.mapping.settings import MapSettings

HOST, PORT = "127.0.0.1", 8000


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """Settings of `glidexp serve`."""

    maps: MapSettings = field(default_factory=MapSettings)
    """how scenes are mapped"""
    sensor: str = sensors.UNKNOWN
    """sensor of scenes whose request names none"""
    glaciers: str | None = None
    """outlines of glaciers, for distances"""
    glaciers_layer: str | None = None
    """of their file, where several hold polygons"""
    dem: str | None = None
    """raster or folder of heights, for those of lakes and for models that take bands of a DEM"""
    host: str = HOST
    """address that is listened at"""
    port: int = PORT
    """0: any free one"""
    names: tuple[str, ...] = ()
    """names, beside addresses and localhost, under which a browser may know this server"""
    max_mb: int = 2000
    """megabytes (10^6 bytes) of an upload"""
    max_mpx: float = 150.0
    """million pixels of a scene; a whole tile of Sentinel-2 has 121"""
    timeout_s: float = 900.0
    """seconds that the mapping of one scene may take"""
    queue: int = 4
    """scenes that may wait or be on their way here while one is mapped; a further one is refused"""
    keep_min: float = 30.0
    """minutes after which a finished map of the page is deleted"""

    def __post_init__(self) -> None:
        least = {
            "--max-mb": self.max_mb,
            "--timeout": self.timeout_s,
            "--keep": self.keep_min,
            "--max-mpx": self.max_mpx,
        }
        for name, value in least.items():
            if not value > 0:
                raise ConfigError(f"{name}={value:g} must be above 0.")
        if self.queue < 0:
            raise ConfigError(f"--queue={self.queue} must be 0 or more.")
        if not 0 <= self.port < 65536:
            raise ConfigError(f"--port={self.port} is no port: give one between 1 and 65535, or 0 for any free one.")
        sensors.get(self.sensor, "--sensor")

    @property
    def max_bytes(self) -> int:
        return self.max_mb * 10**6

    @property
    def max_pixels(self) -> int:
        return int(self.max_mpx * 1e6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a request says of its scene."""

    sensor: str
    threshold: float | None = None
    """probability from which a pixel is lake; None: the server's"""
    gsd_m: float | None = None
    """metres to a pixel of a scene without position; None: not known"""
