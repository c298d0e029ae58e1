"""OHIF at `/viewer`: its published build as files, told that this node is its server.

The files hold nothing of a patient and are for everybody, as the page is: a link from an EHR must open before anybody
has signed in. Images come from `/dicom-web`, which asks who it is; the viewer sends whom it does not know to the
sign-in, and they come back.
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from dicom_node.api.answers.problems import problem_response
from dicom_node.core.errors import SettingsError

AT = "/viewer"
_CONFIG = Path(__file__).with_name("ohif-config.js")
_ABSOLUTE = re.compile(r'((?:href|src|content)=")/')
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
#: Names with a digest in them never change their content.
_NAMED_BY_CONTENT = re.compile(r"[0-9a-f]{16}\.(wasm|woff2)|.*\.bundle\.[0-9a-f]{16}\.js")
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
_ASK_AGAIN = {"Cache-Control": "no-cache"}
#: What in scripts and styles says that the viewer is at the root of its host, and what says where it is.
_MOVED = {
    ".js": (b'__webpack_require__.p = "/"', f'__webpack_require__.p = "{AT}/"'.encode()),
    ".css": (b"url(/", f"url({AT}/".encode()),
}
_TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".css": "text/css"}


class Ohif:
    """The viewer's files, as an application of their own; `None` for a folder serves nothing."""

    def __init__(self, folder: Path | None) -> None:
        """Raises `SettingsError` for a folder without the viewer in it."""
        self._folder = None if folder is None else folder.resolve()
        self._index, self._config = "", ""
        if self._folder is None:
            return
        try:
            page = (self._folder / "index.html").read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"viewer.ohif: {folder} holds no index.html of OHIF. Fetch the viewer with: make viewer"
            ) from error
        self._index = _moved(page)
        # What stands in the page itself may not run there: the policy of the node allows files only.
        inline = "\n".join(_INLINE.findall(page)).replace('PUBLIC_URL="/"', f'PUBLIC_URL="{AT}/"')
        self._config = f"{inline};\n{_CONFIG.read_text(encoding='utf-8')}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = await run_in_threadpool(self._answer, scope)
        await answer(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        if self._folder is None:
            return problem_response(404, "No viewer is served here. Set viewer.ohif.", scope["state"]["request_id"])
        if scope["method"] not in {"GET", "HEAD"}:
            return problem_response(405, "Files are read only.", scope["state"]["request_id"])
        name = scope["path"].removeprefix(scope.get("root_path", "")).lstrip("/")
        query = scope["query_string"].decode("latin-1")
        if not name and "StudyInstanceUIDs=" in query:
            return RedirectResponse(f"{AT}/viewer?{query}")
        return self._file(self._folder, name)

    def _file(self, folder: Path, name: str) -> Response:
        if name == "app-config.js":
            return Response(self._config, media_type="text/javascript", headers=_ASK_AGAIN)
        path = (folder / name).resolve() if "\0" not in name else folder
        if name in {"", "index.html"} or not path.is_relative_to(folder) or not path.is_file():
            if Path(name).suffix in {".js", ".wasm", ".css", ".map"}:
                return PlainTextResponse("There is no such file of the viewer.", 404)
            # The viewer's own addresses are all one page.
            return Response(self._index, media_type="text/html", headers=_ASK_AGAIN)
        headers = _FOREVER if _NAMED_BY_CONTENT.fullmatch(path.name) else _ASK_AGAIN
        if path.suffix in _MOVED:
            content = path.read_bytes().replace(*_MOVED[path.suffix])
            return Response(content, media_type=_TYPES[path.suffix], headers=headers)
        return FileResponse(path, media_type=_TYPES.get(path.suffix), headers=headers)


def _moved(page: str) -> str:
    """Return the page for an address below the root, without scripts of its own."""
    page = _INLINE.sub("", _ABSOLUTE.sub(rf"\1{AT}/", page))
    return page.replace("<head>", f'<head><base href="{AT}/">', 1)
