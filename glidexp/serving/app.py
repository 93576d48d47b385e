"""The addresses of the server: a scene in, lakes out; at once, or as a map that is asked after."""

import asyncio
import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from glidexp.data import sensors
from glidexp.errors import ConfigError
from glidexp.mapping import domain
from glidexp.serving import results
from glidexp.serving.desk import KEPT, Desk, Job, State
from glidexp.serving.guard import Guard
from glidexp.serving.judge import FORMATS, judge, safe_name
from glidexp.serving.refusal import Refusal
from glidexp.serving.settings import ServeSettings, Wish
from glidexp.serving.upload import receive
from glidexp.serving.words import BODY, REFUSALS, Asked, AskedFor, Format, Layer
from glidexp.serving.worker import Task, Worker

PAGE = Path(__file__).with_name("page.html")
Enter = Callable[[Job, Request, Asked], Awaitable[None]]
"""`_enter` of one server"""
LOOK_S = 0.5
"""seconds between looks at whether a client is still there"""


def make_app(root: Path, card: dict[str, Any], model: str, worker: Worker, settings: ServeSettings) -> FastAPI:
    """The application.

    Args:
        root: folder for uploads and maps, its own
        card: of the model
        model: what names it
        worker: maps scenes
        settings: limits
    """
    desk = Desk(root, worker, settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        desk.start()
        yield
        await desk.close()

    app: FastAPI = FastAPIOffline(
        redoc_url=None, title="glidexp serve", description="Maps glacial lakes in satellite scenes.", lifespan=life,
        version=str(card.get("glidexp") or "unknown"),
    )  # fmt: skip
    app.state.desk = desk
    app.add_middleware(Guard, names=(settings.host, *settings.names), tell=told)
    app.add_exception_handler(Refusal, lambda _, error: told(error))
    app.add_exception_handler(HTTPException, _by_framework)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, lambda _, error: told(Refusal(500, f"failed: {type(error).__name__}.")))
    app.add_exception_handler(RequestValidationError, _wrong_setting)  # type: ignore[arg-type]
    enter = partial(_enter, desk, card, settings)
    _pages(app, desk, about(card, model, settings))
    _answers(app, desk, enter)
    _maps(app, desk, enter)
    return app


def told(refusal: Refusal) -> JSONResponse:
    """A refusal as an answer."""
    headers = {} if refusal.retry_s is None else {"Retry-After": str(refusal.retry_s)}
    return JSONResponse({"detail": refusal.words}, refusal.status, headers)


def about(card: dict[str, Any], model: str, settings: ServeSettings) -> dict[str, Any]:
    """What the model is for, and the limits. The bands are those of a scene; others come of the server's DEM."""
    maps, of_dem = settings.maps, list(card.get("terrain") or ())
    return {
        "model": model,
        "architecture": card.get("architecture"),
        "bands": [band for band in domain.bands_of(card) if band not in of_dem],
        "bands_of_dem": of_dem,
        "sensors": list(card.get("sensors") or ()),
        "gsd_m": card.get("gsd_m"),
        "tile_px": card.get("tile_px"),
        "threshold": card.get("threshold", 0.5) if maps.threshold is None else maps.threshold,
        "calibrated": bool(card.get("temperature")),
        "license": card.get("license"),
        "rules": {"min_px": maps.min_px, "min_km2": maps.min_km2, "fill_px": maps.fill_px, "smooth": maps.smooth},
        "known_sensors": sorted(sensors.names()),
        "sensor": settings.sensor,
        "formats": list(FORMATS),
        "limits": {
            "bytes": settings.max_bytes, "pixels": settings.max_pixels, "seconds": settings.timeout_s,
            "waiting": settings.queue, "minutes_kept": settings.keep_min, "maps_kept": KEPT,
        },
    }  # fmt: skip


def _pages(app: FastAPI, desk: Desk, model: dict[str, Any]) -> None:
    html = PAGE.read_text(encoding="utf-8")
    policy = policy_of(html)

    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    @app.get("/health")
    def health() -> JSONResponse:
        """Whether scenes can be mapped, and how many are."""
        taken, most = desk.places
        state = {"status": "ok" if desk.ready else "starting", "scenes": taken, "places": most}
        return JSONResponse(state, 200 if desk.ready else 503)

    @app.get("/model")
    def model_card() -> dict[str, Any]:
        """What the model takes and was trained on, and the limits of this server."""
        return model


def policy_of(html: str) -> str:
    """What a browser may do on the page: its own script and style, pictures and data of this server; nothing else."""

    def sums(tag: str) -> str:
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        return " ".join(f"'sha256-{b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in parts)

    return (
        f"default-src 'none'; script-src {sums('script')}; style-src {sums('style')}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _answers(app: FastAPI, desk: Desk, enter: Enter) -> None:
    @app.post("/predict", response_class=FileResponse, responses=REFUSALS, openapi_extra=BODY)
    async def predict(request: Request, asked: Annotated[AskedFor, Query()]) -> Response:
        """Maps a scene and sends one file back: outlines with areas (GeoJSON), a mask or probabilities."""
        if asked.layer is Layer.overlay and asked.format is not Format.png:
            raise Refusal(422, f"layer=overlay comes as format=png, not {asked.format}.")
        job = desk.open()
        try:
            await enter(job, request, asked)
            while not job.over.is_set():
                try:
                    await asyncio.wait_for(job.over.wait(), LOOK_S)
                except TimeoutError:
                    if await request.is_disconnected():
                        raise Refusal(400, "nobody waits for the answer any more.") from None
            ending = {Format.geojson: ".geojson", Format.geotiff: ".tif", Format.png: ".png"}[asked.format]
            name = results.GEOJSON if asked.format is Format.geojson else f"{asked.layer}{ending}"
            return await _file(job, name, BackgroundTask(desk.drop, job))
        except BaseException:
            desk.drop(job)
            raise


def _maps(app: FastAPI, desk: Desk, enter: Enter) -> None:
    @app.post("/maps", status_code=202, responses=REFUSALS, openapi_extra=BODY)
    async def begin(request: Request, asked: Annotated[Asked, Query()]) -> JSONResponse:
        """Takes a scene to be mapped and answers at once; the address in Location tells how far it is."""
        job = desk.open()
        try:
            await enter(job, request, asked)
        except BaseException:
            desk.drop(job)
            raise
        return JSONResponse(_state(desk, job), 202, {"Location": f"/maps/{job.id}"})

    @app.get("/maps/{map_id}")
    async def state(map_id: str) -> JSONResponse:
        """How far a map is; once it is done, a summary and the addresses of its files."""
        return JSONResponse(_state(desk, desk.find(map_id)))

    @app.get("/maps/{map_id}/{name}", response_class=FileResponse)
    async def file(map_id: str, name: str) -> Response:
        """A file of a finished map."""
        return await _file(desk.find(map_id), name)

    @app.delete("/maps/{map_id}", status_code=204)
    async def drop(map_id: str) -> Response:
        """Ends a map, wherever it is, and deletes its files."""
        desk.drop(desk.find(map_id))
        return Response(status_code=204)


async def _enter(
    desk: Desk, card: dict[str, Any], settings: ServeSettings, job: Job, request: Request, asked: Asked
) -> None:
    """Takes a scene in, judges it, and puts it in line."""
    sensor = asked.sensor or settings.sensor
    try:
        sensors.get(sensor, "sensor")
    except ConfigError as error:
        raise Refusal(422, str(error)) from None
    wish = Wish(sensor=sensor, threshold=asked.threshold, gsd_m=asked.gsd_m)
    inside = job.folder / "input"
    inside.mkdir()
    try:
        path, name = await receive(request, inside, most=settings.max_bytes, name=asked.name)
    except OSError as error:
        raise Refusal(507, f"the server cannot store the scene ({error.strerror}): try a smaller one.") from None
    judged = await asyncio.to_thread(judge, path, safe_name(asked.name or name), wish, card, settings)
    desk.enter(job, Task(judged, wish, job.folder / "map"))


def _state(desk: Desk, job: Job) -> dict[str, Any]:
    done, total = job.steps
    state: dict[str, Any] = {"id": job.id, "state": job.state, "done": done, "total": total}
    if job.state is State.waiting:
        state["ahead"] = desk.ahead(job)
    if job.refusal is not None:
        state |= {"status": job.refusal.status, "detail": job.refusal.words}
    if job.result is not None:
        names = [*job.result.files, *results.PICTURES]
        state |= {"summary": job.result.summary, "files": {name: f"/maps/{job.id}/{name}" for name in names}}
    return state


async def _file(job: Job, name: str, after: BackgroundTask | None = None) -> Response:
    """A file of a map by one of the names that there are; a name is never a path."""
    if job.refusal is not None:
        raise job.refusal
    if job.result is None:
        raise Refusal(404, "this map is not finished yet.")
    files = job.result.files
    async with job.drawing:  # whoever asks for a picture while it is made would be sent half of it
        path = files.get(name)
        if path is None and name in results.PICTURES:
            target = job.folder / name
            path = files[name] = await asyncio.to_thread(results.picture, files[results.PICTURES[name]], target)
    if path is None:
        raise Refusal(404, f"there is no file '{name[:60]}'. Allowed: {', '.join([*files, *results.PICTURES])}.")
    summary = job.result.summary
    headers = {
        "X-Lakes": str(summary["lakes"]),
        "X-Warnings": " | ".join(summary["warnings"]).encode("ascii", "replace").decode(),
    }
    shown = "inline" if path.suffix in (".png", ".json") else "attachment"
    return FileResponse(
        path, media_type=results.TYPES[path.suffix], filename=f"{summary['scene']}_{name}", headers=headers,
        background=after, content_disposition_type=shown,
    )  # fmt: skip


async def _by_framework(request: Request, error: HTTPException) -> JSONResponse:
    return told(Refusal(error.status_code, str(error.detail)))


async def _wrong_setting(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"] if part not in ("query", "path", "body"))
    given = "" if isinstance(first.get("input"), dict) else f"={str(first.get('input'))[:60]}"
    if first["type"] == "extra_forbidden":
        fields = AskedFor if request.url.path == "/predict" else Asked
        return told(Refusal(422, f"{name} is not known. Allowed: {', '.join(fields.model_fields)}."))
    return told(Refusal(422, f"{name}{given}: {first['msg']}."))
