"""Orthanc plugin script: send every series a modality made to the AI node, each image once, and no result back.

Runs inside Orthanc's Python plugin and needs nothing beyond it. It reads Orthanc's own journal (`/changes`) for
series that have become stable, so nothing is missed while the node, or Orthanc itself, is down: how far it has
read and what is still under way is a global property of Orthanc's database. Which images of a series the node has
taken is written in the series' metadata `SentToNode`, only after the transfer has succeeded.
"""

import json
import threading
import time

import orthanc

#: Identifier of the global property that holds this script's state (Orthanc reserves those below 1024).
STATE_PROPERTY = 4100
SENT_METADATA = "SentToNode"
OUR_MANUFACTURER = "DICOM AI Node Project"
SECONDARY_CAPTURE_PREFIX = "1.2.840.10008.5.1.4.1.1.7"
#: SR, presentation states, key objects, encapsulated documents, segmentations and other derived storage classes.
RESULT_PREFIXES = (
    "1.2.840.10008.5.1.4.1.1.88.",
    "1.2.840.10008.5.1.4.1.1.11.",
    "1.2.840.10008.5.1.4.1.1.66.",
    "1.2.840.10008.5.1.4.1.1.104.",
    "1.2.840.10008.5.1.4.1.1.30",
)

settings = json.loads(orthanc.GetConfiguration()).get("DicomNode", {})
NODE = settings.get("Modality", "ainode")
SEND_MODALITIES = set(settings.get("SendModalities", ["CR", "CT", "DX", "MR"]))
RETRY_FIRST_S = settings.get("RetryFirstSeconds", 5)
RETRY_MAX_S = settings.get("RetryMaxSeconds", 600)
POLL_S = 1.0


def get(path):
    return json.loads(orthanc.RestApiGet(path))


def post(path, body):
    return json.loads(orthanc.RestApiPost(path, json.dumps(body)))


# --- what may be sent -------------------------------------------------------------------------------------------


def comes_from_a_modality(series):
    """Tell whether a series holds images a device made, judged by its first instance. `series` is `/series/ID`."""
    if series["MainDicomTags"].get("Modality") not in SEND_MODALITIES or not series["Instances"]:
        return False
    tags = get("/instances/" + series["Instances"][0] + "/simplified-tags")
    equipment = tags.get("ContributingEquipmentSequence") or []
    if OUR_MANUFACTURER in [tags.get("Manufacturer"), *[item.get("Manufacturer") for item in equipment]]:
        return False
    sop_class = tags.get("SOPClassUID", "")
    is_derived = tags.get("ImageType", "").startswith("DERIVED")
    if sop_class.startswith(SECONDARY_CAPTURE_PREFIX) and is_derived:
        return False
    return not sop_class.startswith(RESULT_PREFIXES)


def sent_before(series_id):
    if SENT_METADATA not in get("/series/" + series_id + "/metadata"):
        return set()
    return set(orthanc.RestApiGet("/series/" + series_id + "/metadata/" + SENT_METADATA).decode().split())


def unsent(series_id):
    """The instances of a series the node has not taken yet; empty if the series is gone or not for the node."""
    try:
        series = get("/series/" + series_id)
    except orthanc.OrthancException:
        return []
    if not comes_from_a_modality(series):
        return []
    return sorted(set(series["Instances"]) - sent_before(series_id))


# --- one series on its way: {} → {"job", "instances"} → sent, or {"attempts", "not_before"} and again -----------


def start(series_id, entry):
    """Start the transfer of what is unsent; returns the new entry, or `None` when nothing is left to send."""
    if time.time() < entry.get("not_before", 0):
        return entry
    instances = unsent(series_id)
    if not instances:
        return None
    attempts = entry.get("attempts", 0)
    try:
        job = post("/modalities/" + NODE + "/store", {"Resources": instances, "Asynchronous": True})
    except orthanc.OrthancException as error:
        return postponed(series_id, attempts, str(error))
    return {"job": job["ID"], "instances": instances, "attempts": attempts}


def follow(series_id, entry):
    """Look how the transfer stands; a job that Orthanc no longer knows is started again."""
    try:
        job = get("/jobs/" + entry["job"])
    except orthanc.OrthancException:
        return {"attempts": entry["attempts"]}
    if job["State"] == "Success":
        remember_sent(series_id, entry["instances"])
        orthanc.LogWarning(f"Sent {len(entry['instances'])} images of series {series_id} to {NODE}")
        # Images may have come meanwhile: look again, which ends at once when there are none.
        return {}
    if job["State"] == "Failure":
        return postponed(series_id, entry["attempts"], job.get("ErrorDescription", ""))
    return entry


def postponed(series_id, attempts, reason):
    wait_s = min(RETRY_FIRST_S * 2**attempts, RETRY_MAX_S)
    orthanc.LogWarning(f"Series {series_id} not sent to {NODE} ({reason}); again in {wait_s} s")
    return {"attempts": min(attempts + 1, 30), "not_before": time.time() + wait_s}


def remember_sent(series_id, instances):
    everything = sorted(sent_before(series_id) | set(instances))
    orthanc.RestApiPut("/series/" + series_id + "/metadata/" + SENT_METADATA, "\n".join(everything))


# --- the journal ------------------------------------------------------------------------------------------------


def load_state():
    """Where the journal was read to, and the series under way. An existing archive is not sent when first started."""
    stored = orthanc.GetGlobalProperty(STATE_PROPERTY, "")
    return json.loads(stored) if stored else {"read_to": get("/changes?last")["Last"], "series": {}}


def read_journal(state):
    """Add the series that became stable since the last look."""
    changes = get(f"/changes?limit=1000&since={state['read_to']}")
    for change in changes["Changes"]:
        if change["ChangeType"] == "StableSeries":
            state["series"].setdefault(change["ID"], {})
    state["read_to"] = changes["Last"]
    return not changes["Done"]


def move_on(state):
    """Take each series one step further, then forget those that are done."""
    for series_id, entry in list(state["series"].items()):
        following = follow(series_id, entry) if "job" in entry else start(series_id, entry)
        if following is None:
            del state["series"][series_id]
        else:
            state["series"][series_id] = following


def step(state):
    before = json.dumps(state, sort_keys=True)
    while read_journal(state):
        pass
    move_on(state)
    after = json.dumps(state, sort_keys=True)
    if after != before:
        orthanc.SetGlobalProperty(STATE_PROPERTY, after)


def route(stop):
    state = None
    while not stop.wait(POLL_S):
        try:
            state = state or load_state()
            step(state)
        except (orthanc.OrthancException, KeyError, ValueError) as error:
            # The state in the database is whole: the next round starts from it.
            orthanc.LogError(f"Routing to {NODE} was interrupted and goes on: {error!r}")
            state = None


stop = threading.Event()
worker = threading.Thread(target=route, args=(stop,), name="route-to-node", daemon=True)


def on_change(change_type, _level, _resource):
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        worker.start()
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        stop.set()
        worker.join(5)


orthanc.RegisterOnChangeCallback(on_change)
