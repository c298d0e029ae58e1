"""What inference hands to the builders: a result as data. Python models import what they answer with from here."""

from dicom_node.analysis.answer import (
    Analysis,
    Declined,
    Histogram,
    NotAnalysed,
    Saliency,
    Segment,
    SourceFrame,
    frame_number_of,
    whole_objects,
)
from dicom_node.analysis.context import AnalysisRequest, Predecessor, ReportContext, SourceFile, WithdrawnObject
from dicom_node.analysis.written import NotMade, Picture, WrittenObject, WrittenResult
from dicom_node.core import codes
from dicom_node.core.entities import Code, Finding, Measurement, Presence, Region
from dicom_node.core.errors import NotAnalysable

__all__ = [
    "Analysis",
    "AnalysisRequest",
    "Code",
    "Declined",
    "Finding",
    "Histogram",
    "Measurement",
    "NotAnalysable",
    "NotAnalysed",
    "NotMade",
    "Picture",
    "Predecessor",
    "Presence",
    "Region",
    "ReportContext",
    "Saliency",
    "Segment",
    "SourceFile",
    "SourceFrame",
    "WithdrawnObject",
    "WrittenObject",
    "WrittenResult",
    "codes",
    "frame_number_of",
    "whole_objects",
]
