-- The codes of each stay, at the rank the coders gave them.
--
-- Grain:  one row per stay and code
-- Key:    hadm_id, code_number
-- Inputs: admissions, icd_codes, raw.diagnoses_icd
-- Known:  after discharge, when the stay is coded for billing
-- Source: MIMIC-IV v3.1, hosp.diagnoses_icd
--
-- A code that a stay holds twice counts once, at its better rank.

SELECT
    coded.hadm_id,
    icd_codes.code_number,
    min(coded.seq_num) AS seq_num
FROM raw.diagnoses_icd AS coded
INNER JOIN icd_codes USING (icd_code, icd_version)
SEMI JOIN admissions USING (hadm_id)
GROUP BY coded.hadm_id, icd_codes.code_number
