"""`dicom-node doctor`: look at everything the node depends on and say what is wrong and what to do about it."""

from __future__ import annotations

from dicom_node.config.settings import Settings
from dicom_node.doctor.check import Check
from dicom_node.doctor.configuration import check_running_settings
from dicom_node.doctor.configured import (
    check_certificates,
    check_confinement,
    check_destinations,
    check_hl7_senders,
    check_models,
    check_sign_in,
    check_sources,
)
from dicom_node.doctor.machine import check_clock, check_data_dir, check_forecast, check_ports, check_time_servers
from dicom_node.doctor.orthanc import register_with_orthanc
from dicom_node.doctor.records import check_audit, check_backup, check_database, check_index

__all__ = ["Check", "register_with_orthanc", "run_checks"]


def run_checks(settings: Settings) -> list[Check]:
    """Check this machine, the models, destinations and sources; changes nothing. Safe beside a running node."""
    return [
        *(Check("settings", True, text) for text in settings.remarks),
        check_clock(),
        *check_time_servers(settings),
        check_data_dir(settings),
        check_database(settings),
        *check_forecast(settings),
        *check_index(settings),
        *check_audit(settings),
        *check_backup(settings),
        *check_ports(settings),
        *check_hl7_senders(settings),
        *check_running_settings(settings),
        check_confinement(settings),
        *check_models(settings),
        *check_certificates(settings),
        *check_destinations(settings),
        *check_sources(settings),
        *check_sign_in(settings),
    ]
