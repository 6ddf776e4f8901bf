-- Diagnoses of each stay, in the order the coders ranked them.
--
-- Grain:  one row per stay and code
-- Key:    hadm_id, icd_code, icd_version
-- Inputs: admissions, icd_codes, raw.diagnoses_icd
-- Known:  after discharge, when the stay is coded for billing
-- Source: MIMIC-IV v3.1, hosp.diagnoses_icd
--
-- A code without a title keeps its row; its title is NULL. A code that a stay holds twice counts once, at its
-- better rank.

SELECT
    coded.hadm_id,
    icd_codes.code AS icd_code,
    icd_codes.icd_version,
    icd_codes.title,
    min(coded.seq_num) AS seq_num
FROM raw.diagnoses_icd AS coded
INNER JOIN icd_codes USING (icd_code, icd_version)
SEMI JOIN admissions USING (hadm_id)
GROUP BY coded.hadm_id, icd_codes.code, icd_codes.icd_version, icd_codes.title
