"""A contact sheet: every sensor and region at a glance, stretched to 8 bit, lakes outlined."""

from pathlib import Path

import numpy as np


def contact_sheet(
    out_dir: Path, png_path: Path, *, thumb_px: int = 300, outlines: bool = True, colours: int = 128
) -> Path:
    """Draws one scene of each sensor (rows) and region (columns) of a generated data set into a palette PNG.

    Args:
        out_dir: folder that `generate` made
        png_path: picture to write
        thumb_px: side of a scene in the picture, pixels
        outlines: draw the lake polygons, those that show at this size
        colours: of the palette, 2-256; fewer make a smaller file

    Returns:
        `png_path`.
    """
    import geopandas
    import pandas
    import rasterio
    from PIL import Image, ImageDraw

    scenes = pandas.read_csv(out_dir / "scenes.csv")
    lakes = geopandas.read_file(out_dir / "lakes.gpkg")
    sensors, regions = list(dict.fromkeys(scenes.sensor)), list(dict.fromkeys(scenes.region))
    sheet = Image.new("RGB", (len(regions) * (thumb_px + 4), len(sensors) * (thumb_px + 18)), "white")
    pen = ImageDraw.Draw(sheet)
    for (sensor, region), group in scenes.groupby(["sensor", "region"], sort=False):
        row = group.iloc[0]
        x, y = regions.index(region) * (thumb_px + 4), sensors.index(sensor) * (thumb_px + 18)
        with rasterio.open(out_dir / row.path) as source:
            bands = source.read(out_shape=(3, thumb_px, thumb_px), resampling=rasterio.enums.Resampling.average)
            transform, crs, width = source.transform, source.crs, source.width
        seen = bands[:, bands.min(axis=0) > 0]
        low, high = (np.percentile(seen, q, axis=1)[:, None, None] for q in (2, 98))
        eight = np.clip((bands - low) / np.maximum(high - low, 1) * 255, 0, 255).astype(np.uint8)
        tile = Image.fromarray(np.moveaxis(eight, 0, -1))
        if outlines:
            draw = ImageDraw.Draw(tile)
            mine = lakes[lakes.lake_id.str.startswith(row.scene + "_")].to_crs(crs)
            mine = mine[mine.area > 6 * (transform.a * width / thumb_px) ** 2]
            for shape, kind in zip(mine.geometry, mine.kind, strict=True):
                x_m, y_m = np.asarray(shape.exterior.coords.xy)
                x_px, y_px = (x_m - transform.c) / transform.a, (y_m - transform.f) / transform.e
                points = np.stack([x_px, y_px], axis=1) * (thumb_px / width)
                draw.line(points.ravel().tolist(), fill=(255, 60, 60) if kind == "nonglacial" else (255, 220, 0))
        sheet.paste(tile, (x, y + 14))
        pen.text((x + 2, y + 1), f"{sensor} {row.gsd_m:g} m, {region}", fill="black")
    sheet.quantize(colours, dither=Image.Dither.NONE).save(png_path, optimize=True)
    return png_path
