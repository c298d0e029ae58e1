"""rsyslog as an audit repository: syslog over TLS with octet counting (RFC 5425), certificates on both sides."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.certificates import Certificates
from tests.peers.process import Process, free_port, free_udp_port, listens
from tests.support.needs import absent

_CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off"
       DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="{ca}"
       DefaultNetstreamDriverCertFile="{certificate}" DefaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
module(load="imudp")
input(type="imtcp" port="{port}" address="127.0.0.1" SupportOctetCountedFraming="on")
input(type="imudp" port="{udp_port}" address="127.0.0.1")
template(name="raw" type="list") {{
  property(name="pri") constant(value="|") property(name="protocol-version") constant(value="|")
  property(name="timereported" dateFormat="rfc3339") constant(value="|") property(name="hostname") constant(value="|")
  property(name="app-name") constant(value="|") property(name="procid") constant(value="|")
  property(name="msgid") constant(value="|") property(name="msg") constant(value="\\n")
}}
action(type="omfile" file="{kept}" template="raw" asyncWriting="off" flushOnTXEnd="on")
"""


class Rsyslog:
    """A running rsyslogd; `kept` are the messages that it took."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self.port, self.udp_port = free_port(), free_udp_port()
        self._folder = folder
        self._file = folder / "kept.log"
        self._process: Process | None = None
        text = _CONFIGURATION.format(
            folder=folder, ca=certificates.ca, certificate=certificates.server.certificate,
            key=certificates.server.private_key, port=self.port, udp_port=self.udp_port, kept=self._file,
        )  # fmt: skip
        (folder / "rsyslog.conf").write_text(text, encoding="ascii")

    def start(self) -> None:
        """Start it, and wait until it listens."""
        program = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
        argv = [program, "-n", "-f", str(self._folder / "rsyslog.conf"), "-i", str(self._folder / "pid")]
        self._process = Process(argv, self._folder / "rsyslog.log")
        self._process.wait_until_ready(lambda: listens(self.port), 30)

    def stop(self) -> None:
        """End it as an administrator would."""
        if self._process is not None:
            self._process.stop()
            (self._folder / "pid").unlink(missing_ok=True)

    def forget(self) -> None:
        """Begin with nothing kept."""
        if self._file.exists():
            os.truncate(self._file, 0)

    def kept(self) -> list[list[str]]:
        """Return the fields of each message: priority, version, time, host, application, process, MSGID, message."""
        if not self._file.exists():
            return []
        return [line.split("|", 7) for line in self._file.read_text(encoding="utf-8").splitlines()]


@contextmanager
def running_rsyslog(folder: Path, certificates: Certificates) -> Iterator[Rsyslog]:
    """Start one in `folder`; skip the test where the program or its TLS is missing."""
    if not (shutil.which("rsyslogd") or Path("/usr/sbin/rsyslogd").exists()):
        absent("rsyslogd is missing; install the Debian packages rsyslog and rsyslog-gnutls")
    folder.mkdir(parents=True, exist_ok=True)
    one = Rsyslog(folder, certificates)
    one.start()
    try:
        yield one
    finally:
        one.stop()
