"""The roles of a node; each can run by itself on a machine of its own."""

from __future__ import annotations

from collections.abc import Mapping

#: Name → where its class is, in the order of start and of stop. A role is loaded when it starts, and only if it does;
#: a new one is a module of this room and a line here.
ROLES: Mapping[str, str] = {
    "receive": "dicom_node.roles.receive:ReceiveRole",
    "index": "dicom_node.roles.index:IndexRole",
    "api": "dicom_node.roles.api:ApiRole",
    "deliver": "dicom_node.roles.deliver:DeliverRole",
    "infer": "dicom_node.roles.infer:InferRole",
}
