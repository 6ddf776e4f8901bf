"""The code systems of FHIR that we read or write, and how ICD codes are spelt there."""

from __future__ import annotations

from etl.domain import normalise_icd

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

ICD_VERSIONS = {
    "http://hl7.org/fhir/sid/icd-10-cm": 10,
    "http://hl7.org/fhir/sid/icd-10": 10,
    "urn:oid:2.16.840.1.113883.6.90": 10,
    "urn:oid:2.16.840.1.113883.6.3": 10,
    "http://www.hl7korea.or.kr/CodeSystem/kostat-kcd-8": 10,  # a national edition of ICD-10: the same categories
    "http://hl7.org/fhir/sid/icd-9-cm": 9,
    "urn:oid:2.16.840.1.113883.6.103": 9,
}
"""Of the systems that diagnoses are coded in, the one we prefer first."""


def dotted_icd(code: str, version: int) -> str:
    """Spell an ICD code with its dot, which MIMIC-IV leaves out.

    >>> dotted_icd("I509", 10), dotted_icd("E8801", 9), dotted_icd("4280", 9), dotted_icd("I10", 10)
    ('I50.9', 'E880.1', '428.0', 'I10')
    """
    plain = normalise_icd(code)
    head = 4 if version == 9 and plain.startswith("E") else 3
    return f"{plain[:head]}.{plain[head:]}" if len(plain) > head else plain
