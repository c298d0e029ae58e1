"""The 18 findings of TorchXRayVision's networks in the order of their outputs, and the operating points it publishes.

Source of order and operating points: torchxrayvision 1.x, `datasets.default_pathologies` and `models.model_urls`
(Apache-2.0). SCT = SNOMED CT, DCM = DICOM PS3.16 Annex D. Where no public code was found with certainty, the project's
own scheme is used (`dicom_node.core.codes`).
"""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.core.codes import LUNG, PRIVATE_SCHEME
from dicom_node.core.entities import Code

_HEART = Code("80891009", "SCT", "Heart")
_PLEURA = Code("3120008", "SCT", "Pleura")
_DIAPHRAGM = Code("5798000", "SCT", "Diaphragm")
_MEDIASTINUM = Code("72410000", "SCT", "Mediastinum")
_THORAX = Code("51185008", "SCT", "Chest")


@dataclass(frozen=True, slots=True)
class Label:
    """One output: the name TorchXRayVision gives it, what people read, and its codes."""

    name: str
    label: str
    code: Code
    site: Code

    @property
    def key(self) -> str:
        return self.name.lower().replace("_", "-").replace(" ", "-")


LABELS: tuple[Label, ...] = (
    Label("Atelectasis", "Atelectasis", Code("46621007", "SCT", "Atelectasis"), LUNG),
    Label("Consolidation", "Consolidation", Code("95436008", "SCT", "Lung consolidation"), LUNG),
    Label("Infiltration", "Infiltration", Code("112121", "DCM", "Infiltrate"), LUNG),
    Label("Pneumothorax", "Pneumothorax", Code("36118008", "SCT", "Pneumothorax"), _PLEURA),
    Label("Edema", "Pulmonary edema", Code("19242006", "SCT", "Pulmonary edema"), LUNG),
    Label("Emphysema", "Emphysema", Code("87433001", "SCT", "Pulmonary emphysema"), LUNG),
    Label("Fibrosis", "Fibrosis", Code("51615001", "SCT", "Fibrosis of lung"), LUNG),
    Label("Effusion", "Pleural effusion", Code("60046008", "SCT", "Pleural effusion"), _PLEURA),
    Label("Pneumonia", "Pneumonia", Code("233604007", "SCT", "Pneumonia"), LUNG),
    Label("Pleural_Thickening", "Pleural thickening", Code("PLTHICK", PRIVATE_SCHEME, "Pleural thickening"), _PLEURA),
    Label("Cardiomegaly", "Cardiomegaly", Code("8186001", "SCT", "Cardiomegaly"), _HEART),
    Label("Nodule", "Nodule", Code("786838002", "SCT", "Nodule of lung"), LUNG),
    Label("Mass", "Mass", Code("309529002", "SCT", "Mass of lung"), LUNG),
    Label("Hernia", "Hernia", Code("39839004", "SCT", "Diaphragmatic hernia"), _DIAPHRAGM),
    Label("Lung Lesion", "Lung lesion", Code("52988006", "SCT", "Lesion"), LUNG),
    Label("Fracture", "Fracture", Code("125605004", "SCT", "Fracture of bone"), _THORAX),
    Label("Lung Opacity", "Lung opacity", Code("112033", "DCM", "Abnormal opacity"), LUNG),
    Label(
        "Enlarged Cardiomediastinum",
        "Enlarged cardiomediastinum",
        Code("WIDEMED", PRIVATE_SCHEME, "Enlarged cardiomediastinal silhouette"),
        _MEDIASTINUM,
    ),
)

#: Per published set of weights: the probability that becomes ½. Not a number: the set was not trained for that finding.
PUBLISHED_POINTS: dict[str, tuple[float, ...]] = {
    name: tuple(float(number) for number in numbers.split())
    for name, numbers in {
        "all": """
            0.07422872 0.038290843 0.09814756 0.0098118475 0.023601074 0.0022490358
            0.010060724 0.103246614 0.056810737 0.026791653 0.050318155 0.023985857
            0.01939503 0.042889766 0.053369623 0.035975814 0.20204692 0.05015312
        """,
        "nih": """
            0.039117552 0.0034529066 0.11396341 0.0057298196 0.00045666535 0.0018880932
            0.012037827 0.038744126 0.0037213727 0.014730946 0.016149804 0.054241467
            0.037198864 0.0004403434 nan nan nan nan
        """,
        "pc": """
            0.031012505 0.013347598 0.081435576 0.001262615 0.002587246 0.0035944257
            0.0023071 0.055412333 0.044385884 0.042766232 0.043258056 0.037629247
            0.005658899 0.0091741895 nan 0.026507627 nan nan
        """,
        "chex": """
            0.1988969 0.05710573 nan 0.0531293 0.1435217 nan
            nan 0.27212676 0.07749717 nan 0.19712369 nan
            nan nan 0.09932402 0.09273402 0.3270967 0.10888247
        """,
        "kaggle": """
            nan nan nan nan nan nan
            nan nan 0.13486601 nan nan nan
            nan nan nan nan 0.13511065 nan
        """,
        "mimic_nb": """
            0.08558747 0.011884617 nan 0.0040595434 0.010733786 nan
            nan 0.118761964 0.022924708 nan 0.06358637 nan
            nan nan 0.022143636 0.017476924 0.1258702 0.014020768
        """,
        "mimic_ch": """
            0.09121389 0.010573786 nan 0.005023008 0.003698257 nan
            nan 0.08001232 0.037242252 nan 0.05006329 nan
            nan nan 0.019866971 0.03823637 0.11303808 0.0069147074
        """,
    }.items()
}
