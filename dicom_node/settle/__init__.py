"""Behind the answer: records of the journal become files of the spool and rows of the index.

`news` (what the acceptor tells) → `settler` (one thread, batch by batch) → `items` (what a slot holds, checked and
copied) → `rows` (one transaction).
"""

from dicom_node.settle.news import AllLost, Closed, Journal, SettlerLinks, Stored
from dicom_node.settle.settler import Settler

__all__ = ["AllLost", "Closed", "Journal", "Settler", "SettlerLinks", "Stored"]
