"""The DICOM ports, served by a process of its own: `acceptor` is that process, `process` and `start` its parent's side.

The way of one object: `transport` (bytes in time) → `wire` (PDUs) → `association` (negotiated by `negotiation`, let in
by `admission`) → `messages` (DIMSE) → `incoming` (one reused buffer) → `storing` (`look`, then the journal).
"""
