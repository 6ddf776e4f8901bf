-- Every diagnosis code that a stay has, with its title.
--
-- Grain:  one row per code and version
-- Key:    icd_code, icd_version
-- Inputs: raw.d_icd_diagnoses, raw.diagnoses_icd
-- Known:  always
-- Source: MIMIC-IV v3.1, hosp.d_icd_diagnoses and hosp.diagnoses_icd
-- Enum:   code, title
--
-- A code means nothing without its version: E8801 is a fall from a kerb in ICD-9 (E880.1) and
-- alpha-1-antitrypsin deficiency in ICD-10 (E88.01). Joined on the code alone, a patient who
-- tripped inherits a liver disease. A code that the dictionary does not list has no title.

WITH used AS (
    SELECT DISTINCT
        icd_code,
        icd_version
    FROM raw.diagnoses_icd
    WHERE icd_code IS NOT NULL
)

SELECT
    row_number() OVER (ORDER BY used.icd_code, used.icd_version) AS code_number,
    used.icd_code,
    used.icd_version,
    used.icd_code AS code,
    titles.long_title AS title
FROM used
LEFT JOIN raw.d_icd_diagnoses AS titles USING (icd_code, icd_version)
