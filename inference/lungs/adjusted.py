"""The 15th percentile adjusted for how deeply was breathed in, where the header tells what to adjust it to.

Lung holds as much tissue however far it is filled, so density times volume stays (the sponge model: Dirksen, Proc Am
Thorac Soc 2008;5:925-928). Trials of alpha-1 antitrypsin adjust to the predicted total lung capacity (Chapman et al.,
Lancet 2015;386:360-368): percentile in g/l, times volume, by that capacity. It is predicted from height and sex by
Quanjer et al. (Eur Respir J 1993;6 Suppl 16:5-40), who measured adults of 18 to 70 years.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.inference.images.card_gate import age_years

#: Litres of capacity per metre of height, and what is taken away, by sex.
_CAPACITY_L = {"M": (7.99, 7.08), "F": (6.60, 5.79)}
_AGES = (18, 70)
_HEIGHTS_M = (1.45, 2.10)
#: What air weighs is 0 on this scale, water 1000.
AIR_HU = -1000.0


def adjusted_percentile(percentile_hu: float, volume_ml: float, capacity_ml: float) -> float:
    """Return the percentile in g/l as it would be at the predicted capacity.

    >>> adjusted_percentile(-920.0, 5000.0, 6250.0)
    64.0
    """
    return (percentile_hu - AIR_HU) * volume_ml / capacity_ml


def predicted_capacity_ml(header: Dataset) -> float | str:
    """Return the predicted total lung capacity, or in words why there is none."""
    sex = str(header.get("PatientSex") or "")
    if sex not in _CAPACITY_L:
        return "Patient's Sex is not told"
    years = age_years(header)
    if years is None or not _AGES[0] <= years <= _AGES[1]:
        return "lung capacity is predicted for patients of 18 to 70 years"
    height_m = _height_m(header)
    if height_m is None:
        return "Patient's Size is not told"
    per_m, less = _CAPACITY_L[sex]
    return (per_m * height_m - less) * 1000.0


def _height_m(header: Dataset) -> float | None:
    """Return Patient's Size; nothing where it is missing, no number, or no adult's height in metres."""
    try:
        height_m = float(header.get("PatientSize") or 0.0)
    except (TypeError, ValueError):
        return None
    return height_m if _HEIGHTS_M[0] <= height_m <= _HEIGHTS_M[1] else None
