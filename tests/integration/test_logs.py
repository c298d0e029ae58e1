"""Log lines: one JSON object each, whatever the texts hold; libraries that quote patients stay silent."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.valuerep import PersonName
from sqlalchemy.exc import IntegrityError

from dicom_node.core.errors import NodeError
from dicom_node.core.identifying import NODE_FIELDS
from dicom_node.logs import JsonLines
from tests.support.needs import REPOSITORY

#: A patient nobody else has.
MARK = "XQZMARKER^PATIENT"


def line_of(message: str, exc_info: Exception | None = None, **extra: object) -> str:
    """Return the line as a stream gets it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    record = logging.makeLogRecord({"name": "dicom_node.test", "levelname": "WARNING", "msg": message} | extra)
    if exc_info is not None:
        record.exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    handler.emit(record)
    return stream.getvalue()


def test_a_line_holds_time_level_event_and_fields() -> None:
    told = json.loads(line_of("object refused", status="0xC000"))
    assert (told["level"], told["event"], told["status"]) == ("WARNING", "object refused", "0xC000")
    assert told["at"].endswith("Z")


def test_control_characters_cannot_forge_a_line() -> None:
    line = line_of("x", calling_ae_title='A\r\n{"event": "forged"}\x1b[2J\u2028\x00')
    assert line.count("\n") == 1
    assert line.isascii()
    assert all(c.isprintable() for c in line[:-1])


def test_what_json_does_not_know_is_written_as_text_where_it_can_quote_nobody() -> None:
    told = json.loads(line_of("x", file=Path("a/b"), why=NodeError("no"), other=ValueError(MARK), header={1: [MARK]}))
    assert (told["file"], told["why"], told["other"]) == ("a/b", "NodeError: no", "ValueError")
    assert MARK not in line_of("x", what=Dataset(), who=PersonName(MARK), among=[PersonName(MARK)])


@pytest.mark.parametrize("name", sorted(NODE_FIELDS))
def test_a_field_that_identifies_a_patient_is_withheld(name: str) -> None:
    assert MARK not in line_of("x", None, **{name: MARK, name.upper(): MARK, "of": {"study": {name: MARK}}})


def test_an_exception_is_one_line_with_its_traceback() -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        line = line_of("failed", exc_info=error)
    assert line.count("\n") == 1
    assert "ZeroDivisionError" in json.loads(line)["traceback"]


def run(program: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", program]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)


def raised_by(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:  # noqa: BLE001 - whatever it is
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"invalid literal for int(): {MARK!r}"),
        KeyError(MARK),
        UnicodeEncodeError("latin-1", MARK, 0, 1, "not in range"),
        IntegrityError("INSERT …", {"name": MARK}, Exception(f"Failing row contains ({MARK})")),
        ExceptionGroup(MARK, [ValueError(MARK)]),
    ],
)
def test_errors_that_quote_a_patient_are_told_by_type_and_place(error: Exception) -> None:
    error.add_note(MARK)
    behind = raised_by(NodeError("The object cannot be filed."), raised_by(error))
    for one in (raised_by(error), behind):
        told = line_of("failed", exc_info=one)
        assert MARK not in told
        assert type(error).__name__ in told
        assert "test_logs.py" in told
    assert "The object cannot be filed." in told


@pytest.mark.parametrize("told", [f"no such patient: {MARK}", "no such patient: %s"])
def test_what_other_libraries_say_is_told_by_place_alone(told: str) -> None:
    arguments = (MARK,) if "%" in told else ()
    record = {"name": "a_model.reading", "args": arguments, "pathname": "/models/reading.py", "lineno": 7, "who": MARK}
    line = line_of(told, **record)
    assert MARK not in line
    assert json.loads(line)["where"] == "/models/reading.py:7"
    assert json.loads(line)["logger"] == "a_model.reading"


def test_an_error_that_ends_a_program_is_one_line_of_type_and_place() -> None:
    program = (
        "import threading\n"
        "from dicom_node.logs import configure_logs\n"
        "configure_logs('DEBUG')\n"
        "def fail():\n"
        f"    raise KeyError('{MARK}')\n"
        "thread = threading.Thread(target=fail)\n"
        "thread.start()\n"
        "thread.join()\n"
        "class Ending:\n"
        "    def __del__(self):\n"
        "        fail()\n"
        "Ending()\n"
        "fail()\n"
    )
    done = run(program)
    assert done.returncode == 1
    assert MARK not in done.stderr
    lines = [line for line in map(json.loads, done.stderr.splitlines()) if line["logger"] == "dicom_node.logs"]
    assert [line["event"] for line in lines] == ["thread died", "error passed over", "program died"]
    assert all("KeyError" in line["traceback"] for line in lines)


def test_a_process_without_a_log_of_its_own_tells_errors_in_the_same_form() -> None:
    """The processes with limits: they have no settings to say what is to be logged."""
    program = (
        "import logging\n"
        "from dicom_node.logs import quiet_third_parties\n"
        "quiet_third_parties()\n"
        "try:\n"
        f"    int('{MARK}')\n"
        "except ValueError:\n"
        "    logging.getLogger('dicom_node.work').exception('failed')\n"
        f"logging.getLogger('a_model').warning('{MARK}')\n"
    )
    done = run(program)
    assert MARK not in done.stderr
    ours, other = (json.loads(line) for line in done.stderr.splitlines())
    assert ours["event"] == "failed"
    assert other["logger"] == "a_model"


def test_what_a_model_prints_goes_nowhere_and_is_counted() -> None:
    program = (
        "import logging, sys\n"
        "from dicom_node.logs import quiet_third_parties, unprinted\n"
        "quiet_third_parties()\n"
        "with unprinted('a-model'):\n"
        f"    print('{MARK}')\n"
        f"    print('{MARK}', file=sys.stderr)\n"
        f"    sys.stdout.buffer.write(b'{MARK}')\n"
        "    logging.getLogger('dicom_node.work').warning('said in between')\n"
        "print('said afterwards')\n"
    )
    done = run(program)
    assert MARK not in done.stdout + done.stderr
    assert done.stdout == "said afterwards\n"
    between, counted = (json.loads(line) for line in done.stderr.splitlines())
    assert between["event"] == "said in between"
    assert (counted["event"], counted["model"]) == ("prints of a model dropped", "a-model")
    assert counted["bytes"] == 3 * len(MARK) + 2


def test_a_warning_is_told_by_kind_and_place() -> None:
    program = (
        "import warnings\n"
        "from dicom_node.logs import configure_logs\n"
        "configure_logs('DEBUG')\n"
        f"warnings.warn('Invalid value: {MARK}')\n"
    )
    done = run(program)
    assert MARK not in done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["kind"] == "UserWarning"


def test_libraries_that_quote_values_are_silent() -> None:
    program = (
        "import logging, warnings\n"
        "from dicom_node.logs import configure_logs\n"
        "configure_logs('DEBUG')\n"
        "for name in ('pydicom', 'pynetdicom.assoc', 'highdicom', 'httpx'):\n"
        "    logging.getLogger(name).warning('Doe^Jane')\n"
        "from pydicom.dataset import Dataset\n"
        "dataset = Dataset()\n"
        "dataset.StudyDate = 'Doe^Jane'\n"
    )
    done = run(program)
    assert "Doe" not in done.stdout + done.stderr
