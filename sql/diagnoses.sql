-- Diagnoses of each stay, as ICD titles in the order the coders ranked them.
--
-- Grain:  one row per stay and code
-- Key:    hadm_id, icd_code, icd_version
-- Inputs: admissions, raw.diagnoses_icd, raw.d_icd_diagnoses
-- Known:  after discharge, when the stay is coded for billing
-- Source: MIMIC-IV v3.1, hosp.diagnoses_icd and hosp.d_icd_diagnoses
--
-- A code means nothing without its version: E8801 is a fall from a kerb in ICD-9 (E880.1) and
-- alpha-1-antitrypsin deficiency in ICD-10 (E88.01). Joined on the code alone, a patient who
-- tripped inherits a liver disease. A code without a title keeps its row; its title is NULL. A code that a
-- stay holds twice counts once, at its better rank.

SELECT
    hadm_id,
    coded.icd_code,
    coded.icd_version,
    min(coded.seq_num) AS seq_num,
    any_value(titles.long_title) AS title
FROM raw.diagnoses_icd AS coded
INNER JOIN admissions USING (hadm_id)
LEFT JOIN raw.d_icd_diagnoses AS titles
    ON titles.icd_code = coded.icd_code
    AND titles.icd_version = coded.icd_version
WHERE coded.icd_code IS NOT NULL
GROUP BY hadm_id, coded.icd_code, coded.icd_version
