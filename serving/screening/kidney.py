"""Kidney function: the eGFR that was given, else one from creatinine."""

from __future__ import annotations

from serving.screening.facts import Facts, Lab

ADULT_YEARS = 18
"""CKD-EPI 2021 was made from adults."""


def egfr(facts: Facts, max_hours: float) -> Lab | str:
    """Return the eGFR to judge by: the one given, else that of a creatinine; or why there is none.

    Args:
        facts: what is known of the patient.
        max_hours: an older value is stale.

    Returns:
        mL/min/1.73 m² with its age; or "input_missing", "stale", "age_or_sex_missing".
    """
    given = [lab for lab in (facts.egfr, facts.creatinine_mg_dl) if lab is not None]
    if not given:
        return "input_missing"
    if not (fresh := [lab for lab in given if lab.hours_ago <= max_hours]):
        return "stale"
    if fresh[0] is facts.egfr:
        return fresh[0]
    if facts.sex not in ("F", "M") or facts.age is None or facts.age < ADULT_YEARS:
        return "age_or_sex_missing"
    return Lab(ckd_epi_2021(fresh[0].value, facts.age, facts.sex), fresh[0].hours_ago)


def ckd_epi_2021(creatinine_mg_dl: float, age: int, sex: str) -> float:
    """Return eGFR = 142 · min(Scr/κ, 1)^α · max(Scr/κ, 1)^-1.2 · 0.9938^age (· 1.012 if female); as sql/labs.sql does.

    >>> round(ckd_epi_2021(1.0, 60, "M"))
    86

    Args:
        creatinine_mg_dl: of serum, positive.
        age: years, 18 or more.
        sex: "F" or "M".

    Returns:
        mL/min/1.73 m².

    Source: Inker et al., N Engl J Med 2021;385:1737. κ 0.7, α -0.241 for women; κ 0.9, α -0.302 for men.
    """
    kappa, alpha, factor = (0.7, -0.241, 1.012) if sex == "F" else (0.9, -0.302, 1.0)
    ratio = creatinine_mg_dl / kappa
    return float(142 * min(ratio, 1) ** alpha * max(ratio, 1) ** -1.2 * 0.9938**age * factor)
