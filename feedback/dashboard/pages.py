"""The pages: parse, read, render. Nothing on them needs a script, and nothing changes but by a confirmed form."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl, quote, urlencode

import jinja2
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from feedback import drift, retention, retrain, rollback
from feedback.dashboard import charts, figures, filters, formats, standing, visits
from feedback.dashboard.commands import Busy, Commands
from feedback.dashboard.summary import Summaries, read_days
from feedback.database import Unavailable
from feedback.explaining import Explainer
from feedback.listing import Rated, Status, Wanted
from feedback.store import Store
from feedback.versions import Version
from feedback.writer import DecisionWriter
from gateway_plugin import ids, names
from scorer import shelf
from scorer.auth import address
from scorer.buckets import Buckets
from scorer.config import Config
from scorer.scoring import Scoring
from scorer.web import Problem, names_this_machine, read_body

DAYS = (1, 7, 30, 90)
_HERE = Path(__file__).parent
_PAGE = 50
_GLANCE = 8  # decisions, and runs, on the first page
_RUNS = 30
_FORM_BYTES = 16 * 1024
_WAIT_SECONDS = 6.0  # for a command's end, before the page says that it runs
_ATTEMPTS = 20  # at a login from one address at once, and then one in three seconds
_ATTEMPTS_PER_SECOND = 1 / 3
_STATIC = ("style.css", "icon.svg")
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Visit:
    """A request by someone who may look."""

    request: Request
    session: str


Handler = Callable[[Visit], Awaitable[Response]]


class Pages:
    """What the pages are made from. configured: of each router the artifact that the configuration names; commands:
    None where there is no program to run them."""

    def __init__(
        self,
        config: Config,
        store: Store,
        writer: DecisionWriter,
        scoring: Scoring,
        summaries: Summaries,
        explainer: Explainer,
        configured: Mapping[str, Version],
        commands: Commands | None,
    ) -> None:
        self._config = config
        self._store = store
        self._writer = writer
        self._scoring = scoring
        self._summaries = summaries
        self._explainer = explainer
        self._configured = configured
        self._shelf = shelf.opened(config.artifacts, config.data_dir)
        self._commands = commands
        self._visits = visits.Visits(config.admins)
        self._attempts = Buckets(_ATTEMPTS_PER_SECOND, _ATTEMPTS)
        self._templates = _templates()

    def routes(self) -> list[Route]:
        def page(path: str, handler: Handler) -> Route:
            return Route(path, partial(self._visited, handler), methods=["GET"])

        return [
            page("/", self._overview),
            page("/decisions", self._decisions),
            page("/decisions/{decision_id}", self._decision),
            page("/runs", self._runs),
            page("/versions", self._versions),
            page("/confirm/{action}", self._confirm),
            Route("/act/{action}", partial(self._visited, self._act), methods=["POST"]),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/logout", partial(self._visited, self._logout), methods=["POST"]),
            Route("/static/{name}", _static, methods=["GET"]),
        ]

    # Who looks

    async def _visited(self, handler: Handler, request: Request) -> Response:
        """The handler's page for a session that is valid, and what goes wrong as a page."""
        if refused := self._stranger(request):
            return refused
        session = request.cookies.get(visits.COOKIE, "")
        fresh = not self._visits.valid(session)
        if fresh and not self._visits.open:
            return _to_login(request)
        visit = Visit(request, self._visits.issue() if fresh else session)
        try:
            answer = await handler(visit)
        except Problem as problem:
            answer = self._fault(problem.status, problem.message, visit)
        except Unavailable as error:
            answer = self._fault(503, f"the database does not answer: {error}", visit)
        return _with_session(answer, visit) if fresh else answer

    def _stranger(self, request: Request) -> Response | None:
        """Without a token, only whoever asks for this machine by its own name."""
        if self._visits.open and not names_this_machine(request.headers.get("host", "")):
            return self._fault(421, "without a `token` in the configuration this answers to localhost alone")
        return None

    async def _login(self, request: Request) -> Response:
        if self._visits.open:
            return RedirectResponse("/", 303)
        if request.method == "GET":
            return self._render("login.html", None, wrong=False, then=request.query_params.get("then", "/"))
        form = await _form(request)
        then = form.get("then", "/")
        if not visits.of_this_site(request):
            return self._fault(403, "the form was sent from another site")
        if self._attempts.take(address(request.scope)):
            return self._fault(429, "too many attempts to log in; wait a minute")
        token = form.get("token", "")
        if not self._visits.admits(token):
            return self._render("login.html", None, 403, wrong=True, then=then)
        visit = Visit(request, self._visits.issue(token))
        return _with_session(RedirectResponse(_local(then), 303), visit)

    async def _logout(self, visit: Visit) -> Response:
        self._check_form(visit, await _form(visit.request))
        answer = RedirectResponse("/login", 303, headers=_HEADERS)
        answer.delete_cookie(visits.COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    def _check_form(self, visit: Visit, form: Mapping[str, str]) -> None:
        """Raises Problem 403 unless it comes from a form of this session's."""
        known = self._visits.sent_by_form(visit.session, form.get("form_token", ""))
        if not (visits.of_this_site(visit.request) and known):
            raise Problem(403, "not_ours", "the form is of another session or site; load its page again")

    # What there is to see

    async def _overview(self, visit: Visit) -> Response:
        days = read_days(visit.request.query_params.get("days", "30"))
        if not await self._store.anything():
            return self._render("empty.html", visit, base=str(visit.request.base_url).rstrip("/"))
        found = await self._summaries.get(days)
        return self._render(
            "overview.html",
            visit,
            days=days,
            all_days=DAYS,
            found=found,
            charts=charts.of(found),
            groups=charts.groups(found, self._config.models),
            drift=await drift.newest(self._store),
            runs=await self._store.runs(retrain.JOB, _GLANCE),
            lines=await self._store.listing(Wanted(), _GLANCE),
        )

    async def _decisions(self, visit: Visit) -> Response:
        query = visit.request.query_params
        wanted = filters.wanted(query)
        lines = await self._store.listing(wanted, _PAGE + 1)
        older = lines[_PAGE - 1].decision_id if len(lines) > _PAGE else None
        kept = {name: value for name, value in query.items() if value and name != "before"}
        return self._render(
            "decisions.html",
            visit,
            lines=lines[:_PAGE],
            query=query,
            periods=filters.PERIODS,
            statuses=get_args(Status),
            rated=get_args(Rated),
            routers=tuple(self._scoring.hosted),
            older=older and "?" + urlencode({**kept, "before": older}),
            newest="?" + urlencode(kept) if "before" in query else None,
        )

    async def _decision(self, visit: Visit) -> Response:
        decision_id = visit.request.path_params["decision_id"]
        try:
            ids.minted_at(decision_id)
        except ValueError:
            raise Problem(404, "unknown_decision", "no such decision") from None
        unwritten = self._writer.pending(decision_id)  # asked first: what leaves the queue afterwards is in the store
        record = await self._store.decision(decision_id, unwritten)
        if record is None:
            raise Problem(404, "unknown_decision", f"no decision {decision_id}")
        made_at = record.decision.created_at if record.decision else ids.minted_at(decision_id)
        explained = await self._explainer.explain(record.decision) if record.decision else None
        return self._render("decision.html", visit, record=record, made_at=made_at, explained=explained)

    async def _runs(self, visit: Visit) -> Response:
        jobs = retrain.JOB, drift.JOB, rollback.JOB, retention.JOB
        made = {job: await self._store.runs(job, _RUNS) for job in jobs}
        return self._render("runs.html", visit, made=made, drift=await drift.newest(self._store))

    async def _versions(self, visit: Visit) -> Response:
        return self._render("versions.html", visit, routers=await self._standing())

    async def _standing(self) -> list[standing.RouterStanding]:
        serving = {name: hosted.router.version for name, hosted in self._scoring.hosted.items()}
        rate = self._config.rollback.error_rate
        return await standing.of_all(self._store, self._shelf, serving, self._configured, rate)

    # What there is to do

    async def _confirm(self, visit: Visit) -> Response:
        query = dict(visit.request.query_params)
        router, version = await self._check_action(visit.request.path_params["action"], query)
        share = self._config.rollback.holdback
        return self._render("confirm.html", visit, router=router, version=version, holdback=share)

    async def _act(self, visit: Visit) -> Response:
        form = await _form(visit.request)
        self._check_form(visit, form)
        action = visit.request.path_params["action"]
        router, version = await self._check_action(action, form)
        assert self._commands is not None
        try:
            await self._commands.begin(*self._arguments(action, router, version, form), wait=_WAIT_SECONDS)
        except Busy as error:
            raise Problem(409, "busy", f"`{error}` still runs; one at a time") from None
        return RedirectResponse("/runs" if action == "retrain" else "/versions", 303)

    async def _check_action(self, action: str, given: Mapping[str, str]) -> tuple[str, str]:
        """The router and version that it is about, '' where it takes none. Raises Problem."""
        if action not in _ACTIONS:
            raise Problem(404, "not_found", "no such button")
        if self._commands is None:
            raise Problem(404, "not_found", "this daemon was started without its commands")
        router, version = given.get("router", ""), given.get("version", "")
        if action == "retrain":
            return "", ""
        if router not in self._config.routers:
            raise Problem(400, "bad_request", f"router: no router {router!r} in the configuration", "router")
        if action != "activate":
            return router, ""
        known = next(one.versions for one in await self._standing() if one.router == router)
        if version not in [one.version for one in known]:
            raise Problem(400, "bad_request", f"version: {router} has no version {version!r}", "version")
        return router, version

    def _arguments(self, action: str, router: str, version: str, form: Mapping[str, str]) -> tuple[str, ...]:
        """Of the command."""
        share = names.parse(self._config.default).share
        holdback = self._config.rollback.holdback if "holdback" in form else 0
        return {
            "retrain": ("retrain",),
            "recalibrate": ("calibrate", "--router", router, "--strong-share", f"{0.5 if share is None else share:g}"),
            "rollback": ("artifacts", "rollback", router),
            "activate": ("artifacts", "activate", "--holdback", f"{holdback:g}", router, version),
        }[action]

    # As HTML

    def _render(self, template: str, visit: Visit | None, status: int = 200, **context: Any) -> Response:
        request = visit.request if visit else None
        html = self._templates.get_template(template).render(
            **context,
            path=request.url.path if request else "",
            action=request.path_params.get("action", "") if request else "",
            form_token=self._visits.form_token(visit.session) if visit else "",
            open=self._visits.open,
            can_act=self._commands is not None,
            command=self._commands.last if self._commands else None,
            config=self._config,
            models=self._config.models,
            now=time.time(),
        )
        return Response(html, status, _HEADERS, media_type="text/html")

    def _fault(self, status: int, message: str, visit: Visit | None = None) -> Response:
        return self._render("fault.html", visit, status, message=message)


_ACTIONS = ("retrain", "recalibrate", "rollback", "activate")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; the last of a name counts. Raises Problem."""
    body = await read_body(request, _FORM_BYTES)
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        return Response("no such file", 404, media_type="text/plain")
    headers = {"cache-control": "public, max-age=600", "x-content-type-options": "nosniff"}
    return FileResponse(_HERE / "static" / name, headers=headers)


def _to_login(request: Request) -> Response:
    """And back, if it was to look."""
    where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    then = where if request.method == "GET" else "/"
    return RedirectResponse(f"/login?then={quote(then, safe='')}", 303, headers=_HEADERS)


def _local(path: str) -> str:
    """The path, if it is one of this site's."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


def _with_session(answer: Response, visit: Visit) -> Response:
    secure = visit.request.url.scheme == "https"
    seconds = visits.HOURS * 3600
    answer.set_cookie(
        visits.COOKIE, visit.session, max_age=seconds, path="/", httponly=True, samesite="strict", secure=secure
    )
    return answer


def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("feedback.dashboard")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(formats.filters(), bar=figures.bar)
    return environment
