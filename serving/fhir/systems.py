"""The code systems of FHIR that we read or write."""

from __future__ import annotations

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"
LOINC = "http://loinc.org"
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
