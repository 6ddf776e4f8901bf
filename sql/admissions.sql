-- Every stay with the patient's age at admission.
--
-- Grain:  one row per stay whose patient is listed
-- Key:    hadm_id
-- Inputs: raw.admissions, raw.patients, seed.rules
-- Known:  at admission, but for dischtime
-- Source: MIMIC-IV v3.1, hosp.admissions and hosp.patients; bounds from etl/vocabulary/rules.csv
--
-- Dates are shifted per patient, so age is counted from the anchor: a patient of anchor_age 60 in
-- anchor_year 2150 who is admitted in 2153 is 63. anchor_age 91 stands for "over 89". Race and admission
-- type vary between the stays of one patient; the value of the stay is taken. A stay that ends before it
-- begins has no known end.

SELECT
    admissions.subject_id,
    admissions.hadm_id,
    admissions.admittime,
    CASE WHEN admissions.dischtime >= admissions.admittime THEN admissions.dischtime END AS dischtime,
    CAST(patients.anchor_age + year(admissions.admittime) - patients.anchor_year AS INTEGER) AS age,
    coalesce(age BETWEEN rules.low AND rules.high, TRUE) AS adult,
    CASE WHEN patients.gender IN ('F', 'M') THEN patients.gender END AS sex,
    admissions.race,
    admissions.admission_type,
    patients.anchor_year_group
FROM raw.admissions AS admissions
INNER JOIN raw.patients AS patients USING (subject_id)
INNER JOIN seed.rules AS rules ON rules.rule = 'age'
