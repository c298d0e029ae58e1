"""Every kind of problem that the API answers with: what it is, and what to do about it.

`type` of a problem (RFC 9457 3.1.1) is the address of its kind, where the node tells what stands here. A kind never
changes its meaning. Where the status says all, there is none, and `type` is about:blank.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.api.addresses import V1


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One kind: `title` is the same for every occurrence, `remedy` says what to do, by whoever can."""

    name: str
    status: int
    title: str
    meaning: str
    remedy: str

    @property
    def type(self) -> str:
        """Its address, relative to that of the node."""
        return f"{V1}/problems/{self.name}"


MALFORMED_BODY = ProblemKind(
    "malformed-body", 400, "Malformed body",
    "The body breaks the rules of its format, is empty, or broke off.", "Mend the client, and send it again.",
)  # fmt: skip
NOT_SIGNED_IN = ProblemKind(
    "not-signed-in", 401, "Not signed in",
    "The request shows nothing that the node knows, or something that has expired.",
    "Show a key as `Authorization: Bearer …`, or sign in on the page.",
)  # fmt: skip
NOT_ALLOWED = ProblemKind(
    "not-allowed", 403, "Not allowed",
    "Whoever is signed in has no role that may do this.", "Ask an administrator of the node for the role.",
)  # fmt: skip
OTHER_SITE = ProblemKind(
    "other-site", 403, "Another site is asking",
    "A browser says that a page of another site asks in the name of a session.",
    "Use the node's own page, or show a key, which browsers do not send along by themselves.",
)  # fmt: skip
SWITCHED_OFF = ProblemKind(
    "switched-off", 404, "Switched off",
    "The settings of the node, or the role of this process, do not have it.",
    "Set what `detail` names, or ask the process that has it.",
)  # fmt: skip
OBJECT_LOST = ProblemKind(
    "object-lost", 404, "Object lost",
    "The object is recorded, and its file is gone or holds other bytes than were made.",
    "Look at the disk. Analysing again makes the object anew.",
)  # fmt: skip
PAGE_GONE = ProblemKind(
    "page-gone", 404, "Page gone",
    "The entry behind which a page of a list begins is not there any more.", "Begin with the first page.",
)  # fmt: skip
CLIENT_SILENT = ProblemKind(
    "client-silent", 408, "Client silent",
    "The rest of a body did not come in time; what came before is kept.", "Send the rest again.",
)  # fmt: skip
NOT_NOW = ProblemKind(
    "not-now", 409, "Not in this state",
    "What is asked does not go with the state that the study, job or delivery is in.",
    "Read `detail`: it names the state, and what to do instead.",
)  # fmt: skip
ALREADY_REVIEWED = ProblemKind(
    "already-reviewed", 409, "Already reviewed",
    "Somebody has decided on the result; `detail` says who, what and when.",
    "Read their decision. What no longer holds is told by a new result.",
)  # fmt: skip
BEING_REVIEWED = ProblemKind(
    "being-reviewed", 409, "Being reviewed",
    "Somebody else is reviewing the result at this moment; `detail` says who, and until when.",
    "Wait, or ask them to let go of it.",
)  # fmt: skip
NOT_REVIEWABLE = ProblemKind(
    "not-reviewable", 409, "Not to be reviewed",
    "The result holds no more, its study is being analysed anew, or it is none that a person decides on.",
    "Read `detail`, and review the result that stands.",
)  # fmt: skip
LENGTH_REQUIRED = ProblemKind(
    "length-required", 411, "Length required",
    "The body came without Content-Length, at an address that takes small bodies only.",
    "Send the body with Content-Length.",
)  # fmt: skip
CHANGED_MEANWHILE = ProblemKind(
    "changed-meanwhile", 412, "Changed meanwhile",
    "Somebody has changed it since the version that `If-Match` names; `detail` says who and why. Nothing was done.",
    "Look at it again, and repeat what is still wanted with the `version` that it has now.",
)  # fmt: skip
VERSION_REQUIRED = ProblemKind(
    "version-required", 428, "Version required",
    "The change would overwrite what somebody else may have changed meanwhile, so it must say what it was made from.",
    "Send the `version` that was looked at as `If-Match`, or `If-None-Match: *` for what is to be new.",
)  # fmt: skip
TOO_LARGE = ProblemKind(
    "too-large", 413, "Too large",
    "The body has more bytes or parts than the node takes at this address.",
    "Send it in several requests, or raise the limit that `detail` names.",
)  # fmt: skip
WRONG_FORMAT = ProblemKind(
    "wrong-format", 415, "Wrong format",
    "The body is of a media type that the address does not take.", "Send what `detail` names.",
)  # fmt: skip
BAD_RANGE = ProblemKind(
    "bad-range", 416, "Bad range",
    "The part of a file that `Range` asks for is behind its end, or nobody can read what it asks for.",
    "Ask for bytes within the length of the file, or leave `Range` out.",
)  # fmt: skip
INVALID_REQUEST = ProblemKind(
    "invalid-request", 422, "Invalid request",
    "A parameter, a header or a field of the body cannot be used; `errors` says which, and why.",
    "Correct what `errors` names. The description of the address has every pattern and limit.",
)  # fmt: skip
NOTHING_STORED = ProblemKind(
    "nothing-stored", 422, "Nothing stored",
    "No file of an upload could be stored; `errors` says of each why not.",
    "Correct the files, or what the form says of them.",
)  # fmt: skip
TOO_MANY_TRIES = ProblemKind(
    "too-many-tries", 429, "Too many tries",
    "Too many sign-ins from this address failed.", "Wait as long as `Retry-After` says.",
)  # fmt: skip
SOURCE_FAILED = ProblemKind(
    "source-failed", 502, "Source failed",
    "The PACS that was asked refused, did not answer, or answered what makes no sense.",
    "Look at the source: `dicom-node doctor` tries each.",
)  # fmt: skip
BUSY = ProblemKind(
    "busy", 503, "Busy",
    "All places are taken: of bodies being read, of listeners, of searches in a PACS, of retrievals that wait.",
    "Try again when `Retry-After` has passed.",
)  # fmt: skip
NO_ROOM = ProblemKind(
    "no-room", 503, "No room",
    "The node cannot store: its disk is full or its database is away.", "Make room, and send it again later.",
)  # fmt: skip
NOT_READY = ProblemKind(
    "not-ready", 503, "Not ready",
    "The node cannot take studies now; `detail` names every reason.", "Do what `detail` says, or wait.",
)  # fmt: skip
INDEX_UNAVAILABLE = ProblemKind(
    "index-unavailable", 503, "Index unavailable",
    "The database does not answer. Images are taken nevertheless, and entered later.",
    "Look at the database. Nothing needs to be sent again.",
)  # fmt: skip
AUDIT_UNAVAILABLE = ProblemKind(
    "audit-unavailable", 503, "Audit unavailable",
    "What was asked cannot be written down, so it is not done. Care goes on.",
    "Look at where the audit trail is kept: the log of the node says why it cannot be written.",
)  # fmt: skip

PROBLEM_KINDS = (
    MALFORMED_BODY, NOT_SIGNED_IN, NOT_ALLOWED, OTHER_SITE, SWITCHED_OFF, OBJECT_LOST, PAGE_GONE, CLIENT_SILENT,
    NOT_NOW, ALREADY_REVIEWED, BEING_REVIEWED, NOT_REVIEWABLE, LENGTH_REQUIRED, CHANGED_MEANWHILE, TOO_LARGE,
    WRONG_FORMAT, BAD_RANGE, INVALID_REQUEST, NOTHING_STORED, VERSION_REQUIRED, TOO_MANY_TRIES, SOURCE_FAILED,
    BUSY, NO_ROOM, NOT_READY, INDEX_UNAVAILABLE, AUDIT_UNAVAILABLE,
)  # fmt: skip
#: What a status means where nothing more is said: the first of its kinds. 404, 405, 406 and 500 say all themselves.
KIND_OF_STATUS = {one.status: one for one in reversed(PROBLEM_KINDS) if one.status not in (404, 503)}
