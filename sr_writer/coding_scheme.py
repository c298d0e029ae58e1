"""Says what the private coding scheme of this project is, in every object that uses it (PS3.3 C.12.1.1.2)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node import MANUFACTURER, codes
from dicom_node.uids import coding_scheme_uid


def identify_private_scheme(dataset: Dataset) -> None:
    """Add the scheme to those the source identified, if any code in `dataset` is of it."""
    if not any(e.keyword == "CodingSchemeDesignator" and e.value == codes.PRIVATE_SCHEME for e in dataset.iterall()):
        return
    item = Dataset()
    item.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    item.CodingSchemeUID = coding_scheme_uid(codes.PRIVATE_SCHEME)
    item.CodingSchemeName = codes.PRIVATE_SCHEME_NAME
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    known = dataset.get("CodingSchemeIdentificationSequence") or ()
    others = [one for one in known if one.get("CodingSchemeDesignator") != codes.PRIVATE_SCHEME]
    dataset.CodingSchemeIdentificationSequence = [*others, item]
