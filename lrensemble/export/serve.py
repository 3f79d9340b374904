"""An exported team over HTTP: rows in, classes out. A request is data: nothing of it is executed, or kept."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lrensemble.errors import UserError
from lrensemble.export.ensemble import Ensemble
from lrensemble.export.images import Reader
from lrensemble.export.predict import answer_of
from lrensemble.export.rows import RowReader
from lrensemble.export.texts import TextReader

MOST_BYTES = 16 << 20  # of a request
MOST_ROWS = 1024  # of a request
BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["rows"], "properties": {"rows": {"type": "array", "items": {}}}}
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}


def app_of(
    team: Ensemble,
    reader: Reader | RowReader | TextReader,
    *,
    abstain: float | None = None,
    most_bytes: int = MOST_BYTES,
    most_rows: int = MOST_ROWS,
) -> FastAPI:
    """The application: ``POST /predict``, ``GET /`` (what the team takes), ``GET /health``.

    One request is computed at a time. What is wrong with a request is status 400 and ``{"error": "one line"}``.

    Parameters
    ----------
    reader : of the team's kind of rows (`reader_of`)
    abstain : no class below this confidence, unless a request says otherwise
    most_bytes, most_rows : of a request
    """
    assert team.card is not None
    about = {
        "team": team.card.name,
        "task": team.card.task,
        "classes": list(team.class_names),
        "input": {**team.card.preprocessing.model_dump(mode="json", exclude_defaults=True)},
        "most_bytes": most_bytes,
        "most_rows": most_rows,
    }
    app = FastAPI(title=f"{team.card.name}: {team.card.task}")
    turn = asyncio.Lock()

    @app.get("/")
    async def card() -> dict[str, Any]:
        """What the team takes and answers."""
        return about

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict", openapi_extra={"requestBody": BODY})
    async def predict(request: Request, abstain: float | None = Query(abstain, ge=0, le=1)) -> dict[str, Any]:
        """Classes of ``{"rows": [...]}``, or of one image file as the body with its type, image/png for example."""
        body = await _body(request, most_bytes)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        async with turn:
            answers = await run_in_threadpool(_predict, team, reader, kind, body, most_rows, abstain)
        return {"predictions": answers}

    @app.exception_handler(UserError)
    async def bad_input(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)

    @app.exception_handler(RequestValidationError)
    async def bad_query(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]} = {first['input']}: {first['msg']}"}, 400)

    @app.exception_handler(HTTPException)
    async def no_such_place(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(
            {"error": f"{error.detail}: POST /predict, GET / and GET /health are here"}, error.status_code
        )

    return app


async def _body(request: Request, most: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:  # what Content-Length says need not be so
            raise UserError(f"the request has more than {most:,} bytes: send fewer rows at a time")
    return bytes(body)


def _predict(
    team: Ensemble, reader: Reader | RowReader | TextReader, kind: str, body: bytes, most: int, abstain: float | None
) -> list[dict[str, Any]]:
    if isinstance(reader, Reader) and kind.startswith("image/"):
        rows: Any = reader.picture(io.BytesIO(body))
    elif kind == "application/json":
        rows = reader.rows(_listed(body, most))
    else:
        image = " or an image file as image/png, image/jpeg, ..." if isinstance(reader, Reader) else ""
        raise UserError(f'Content-Type is {kind or "missing"}: send {{"rows": [...]}} as application/json{image}')
    return [answer_of(p, team.class_names, abstain) for p in team.predict_proba(rows)]


def _listed(body: bytes, most: int) -> list[Any]:
    try:
        found = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UserError(f"no JSON: {error}") from None
    rows = found.get("rows") if isinstance(found, Mapping) else None
    if not isinstance(rows, list) or not rows:
        raise UserError('{"rows": [...]} with at least one row is needed')
    if len(rows) > most:
        raise UserError(f"{len(rows):,} rows, at most {most:,} are taken at a time")
    return rows


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
