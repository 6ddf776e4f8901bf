-- The dictionary of diagnosis codes, so that a service can title a code as training did.
--
-- Grain:  one row per listed code and version
-- Key:    icd_code, icd_version
-- Inputs: raw.d_icd_diagnoses
-- Known:  always
-- Source: MIMIC-IV v3.1, hosp.d_icd_diagnoses

SELECT
    icd_code,
    icd_version,
    long_title AS title
FROM raw.d_icd_diagnoses
ORDER BY icd_version, icd_code
