-- The diagnoses of each stay as one list.
--
-- Grain:  one row per stay with a diagnosis
-- Key:    hadm_id
-- Inputs: diagnoses
-- Known:  after discharge, when the stay is coded for billing
-- Source: MIMIC-IV v3.1, hosp.diagnoses_icd

SELECT
    hadm_id,
    list({'icd_code': icd_code, 'icd_version': icd_version, 'title': title} ORDER BY seq_num, icd_code, icd_version)
        AS diagnoses
FROM diagnoses
GROUP BY hadm_id
