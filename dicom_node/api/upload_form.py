"""What a form says of the pictures that come with it: patient, study, how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from dicom_node.api.parts import Stripped
from dicom_node.core.entities import Purpose, StatedRequest
from dicom_node.core.errors import RefusedObject, StoreStatus
from dicom_node.core.uids import is_valid_uid
from dicom_node.ingest.pictures import Words

_TEXT = r"^[^\\\x00-\x1f\x7f]*$"
_Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=64, pattern=_TEXT)]
_Short = Annotated[str, StringConstraints(strip_whitespace=True, max_length=16, pattern=_TEXT)]
_CodeText = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Z0-9 _]{0,16}$")]


def _without_hyphens(text: object) -> object:
    return text.replace("-", "") if isinstance(text, str) else text


def _uid(text: str) -> str:
    if text and not is_valid_uid(text):
        raise ValueError("not a UID: digits and single dots, at most 64 characters")
    return text


_Date = Annotated[
    str,
    BeforeValidator(_without_hyphens),
    StringConstraints(pattern=r"^(\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))?$"),
]


#: What may be said of a request: one line of plain text.
Indication = Annotated[
    str,
    StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$"),
    Stripped,
    Field(description="Why the analysis is wanted; stands in every report.", examples=["Dyspnoea, known COPD"]),
]


class RequestWords(BaseModel):
    """Why an analysis is wanted, and what for. What is left out stays as it was said before."""

    model_config = ConfigDict(extra="forbid")

    indication: Indication | None = None
    purpose: Purpose | None = Field(None, description="What the analysis is for; stands in every report.")

    def stated(self) -> StatedRequest:
        """Return it as the index keeps it."""
        return StatedRequest(self.indication, self.purpose)


class PictureWords(BaseModel):
    """The fields of the form. Only pictures need them: DICOM files say all this themselves."""

    model_config = ConfigDict(extra="forbid")

    patient_id: Annotated[_Text, StringConstraints(min_length=1)] = Field(description="Patient ID.")
    patient_name: _Text = Field("", description="Family^Given.")
    birth_date: _Date = Field("", description="YYYY-MM-DD or YYYYMMDD.")
    sex: Literal["", "M", "F", "O"] = ""
    patient_age: Annotated[str, StringConstraints(pattern=r"^(\d{3}[DWMY])?$")] = Field("", description="`004Y`.")
    study_instance_uid: Annotated[str, AfterValidator(_uid)] = Field("", description="None: a study of their own.")
    study_date: _Date = Field("", description="YYYY-MM-DD or YYYYMMDD.")
    study_description: _Text = ""
    series_description: _Text = ""
    accession_number: _Short = ""
    modality: _CodeText = Field("OT", description="What made the picture, `DX` for a radiograph; routes look at it.")
    body_part: _CodeText = Field("", description="`CHEST`; routes look at it.")
    view_position: _CodeText = Field("", description="`PA`, `AP`, `LL` …")
    institution: _Text = ""
    conversion_type: Literal["DV", "DI", "DF", "WSD", "SD", "SI"] = Field(
        "WSD", description="How it became a file: DF digitised film, SI scanned image, WSD workstation …"
    )
    burned_in_annotation: Literal["", "YES", "NO"] = Field("", description="Whether the picture names the patient.")


_KEYWORDS = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "birth_date": "PatientBirthDate",
    "sex": "PatientSex",
    "patient_age": "PatientAge",
    "study_date": "StudyDate",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "accession_number": "AccessionNumber",
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "view_position": "ViewPosition",
    "institution": "InstitutionName",
    "conversion_type": "ConversionType",
    "burned_in_annotation": "BurnedInAnnotation",
}


def words_of(fields: Mapping[str, str]) -> Words:
    """Return what the form says. Raises `RefusedObject` with every field that cannot be used, never its value."""
    try:
        said = PictureWords.model_validate(dict(fields))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {_why(e['msg'])}" for e in error.errors())
        raise RefusedObject(
            StoreStatus.CANNOT_UNDERSTAND, f"The form does not say what a picture needs. {wrong}."
        ) from error
    attributes = {keyword: getattr(said, name) for name, keyword in _KEYWORDS.items() if getattr(said, name)}
    return Words(said.study_instance_uid, attributes)


def _why(message: str) -> str:
    return message.removeprefix("Value error, ").rstrip(".")
